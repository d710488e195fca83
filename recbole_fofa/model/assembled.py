"""One user's network: the kept blocks and nothing else (Figure 3d)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from recbole_fofa.model.backbone.base import Backbone


class AssembledNetwork(nn.Module):
    """Kept blocks with parameters of their own: no gates, no mapper, no dropped block.

    Args:
        backbone: Input stage, formulas of the blocks, output stage; shared, not copied.
        kept: Indices of the kept blocks, ascending.
        parameters: The tensors ``[*shape]`` of each of them.
        output_bias: Added to the hidden states, ``[D]``.
    """

    def __init__(
        self,
        backbone: Backbone,
        kept: Sequence[int],
        parameters: Sequence[Mapping[str, Tensor]],
        output_bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.kept = tuple(kept)
        self.block_parameters = nn.ModuleList(
            nn.ParameterDict({name: nn.Parameter(value) for name, value in own.items()})
            for own in parameters
        )
        self.output_bias = nn.Parameter(output_bias) if output_bias is not None else None
        self.eval()

    def forward(self, item_emb: Tensor, lengths: Tensor, candidate_emb: Tensor) -> Tensor:
        """Scores of candidates.

        Args:
            item_emb: Embeddings of the input, padded on the right, ``[B, T, D]``.
            lengths: Number of items of each row, at least 1, ``[B]``.
            candidate_emb: ``[B, C, D]``.

        Returns:
            ``[B, C]``.
        """
        hidden = self.hidden(item_emb)
        last = hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]
        return torch.einsum("bd,bcd->bc", last, candidate_emb)

    def hidden(self, item_emb: Tensor) -> Tensor:
        """Hidden states of the input, ``[B, T, D]`` to ``[B, T, D]``."""
        x = self.backbone.embed(item_emb)
        for index, own in zip(self.kept, self.block_parameters, strict=True):
            x = self.backbone.apply_block(index, x, dict(own.named_parameters()))
        hidden = self.backbone.finish(x)
        return hidden if self.output_bias is None else hidden + self.output_bias
