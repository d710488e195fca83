"""Structure controller: which blocks does this user need? (Figure 3b)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from recbole_fofa.model.extractor import SequenceExtractor


class StructureController(nn.Module):
    """Extractor ``E``, head ``H`` and the linear policy projection.

    From the paper: an extractor for the real-time interest, a light head for the distribution
    over (drop, keep) of each block, a linear projection of that distribution, not of the sampled
    structure, as the structural vector. Ours: the budget as an embedded scalar, and a start
    that is biased towards keeping (as ConvNet-AIG does), since gates that start undecided
    collapse to one pattern before the blocks have learned anything.

    Args:
        hidden_size: ``D``.
        n_layers: ``L``.
        horizon: Longest initial memory of the extractor, in items.
        keep_bias: Initial margin between the keep and the drop logit.
        budget_aware: Whether the interest is shifted by an embedding of the budget.
        initializer_range: Standard deviation of what the head's initial weights make of each
            element of the interest.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        n_layers: int,
        horizon: int,
        keep_bias: float,
        budget_aware: bool,
        initializer_range: float,
    ) -> None:
        super().__init__()
        self.n_layers = n_layers
        self.extractor = SequenceExtractor(hidden_size, horizon)
        self.head = nn.Linear(hidden_size, 2 * n_layers)
        nn.init.normal_(self.head.weight, std=initializer_range * math.sqrt(hidden_size))
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor([-keep_bias / 2, keep_bias / 2]).repeat(n_layers))
        self.policy_projection = nn.Linear(2 * n_layers, hidden_size)
        self.budget_embedding = nn.Linear(1, hidden_size) if budget_aware else None

    def forward(self, behaviour: Tensor, lengths: Tensor, budget: Tensor | None = None) -> Tensor:
        """Logits of (drop, keep) for each block.

        Args:
            behaviour: Item embeddings of the recent behaviour, ``[B, H, D]``.
            lengths: ``[B]``.
            budget: Share of the blocks' MACs, ``[B]``; read if the controller is budget-aware.

        Returns:
            ``[B, L, 2]``.
        """
        interest = self.extractor(behaviour, lengths)
        if self.budget_embedding is not None:
            if budget is None:
                budget = interest.new_ones(interest.shape[0])
            interest = interest + self.budget_embedding(budget.unsqueeze(1).to(interest.dtype))
        # The interest has norm sqrt(D): unscaled, a few steps of Adam would flip all gates.
        logits: Tensor = self.head(interest / math.sqrt(interest.shape[1]))
        return logits.view(-1, self.n_layers, 2)

    def structural_vector(self, logits: Tensor) -> Tensor:
        """Linear projection of ``softmax(logits)``: ``[B, L, 2]`` to ``[B, D]``."""
        vector: Tensor = self.policy_projection(logits.softmax(-1).flatten(1))
        return vector
