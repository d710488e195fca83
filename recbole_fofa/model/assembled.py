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
    """

    def __init__(
        self, backbone: Backbone, kept: Sequence[int], parameters: Sequence[Mapping[str, Tensor]]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.kept = tuple(kept)
        self.block_parameters = nn.ModuleList(
            nn.ParameterDict({name: nn.Parameter(value) for name, value in own.items()})
            for own in parameters
        )
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
        x = self.backbone.embed(item_emb)
        for index, own in zip(self.kept, self.block_parameters, strict=True):
            x = self.backbone.apply_block(index, x, dict(own.named_parameters()))
        hidden = self.backbone.finish(x)
        last = hidden[torch.arange(len(x), device=x.device), lengths - 1]
        return torch.einsum("bd,bcd->bc", last, candidate_emb)
