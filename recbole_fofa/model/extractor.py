"""Sequence extractor: recent behaviour to one interest vector (Figure 3b and 3c)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SequenceExtractor(nn.Module):
    """A GRU whose state after the last item, normalised, is the interest of the user.

    The paper leaves the extractor open; a GRU is what DUET uses, and its initial state is the
    natural place for the structural vector. LayerNorm is ours: item embeddings start at a scale
    of 0.02, and without it all users would look alike to the heads that follow.

    Args:
        hidden_size: ``D``.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.gru = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.norm = nn.LayerNorm(hidden_size)

    def forward(
        self, behaviour: Tensor, lengths: Tensor, initial_state: Tensor | None = None
    ) -> Tensor:
        """Read each behaviour up to its length; what follows is never seen.

        Args:
            behaviour: Item embeddings, padded on the right, ``[B, H, D]``.
            lengths: Number of items of each user, ``[B]``; 0 gives the initial state.
            initial_state: ``[B, D]``; zeros if not given.

        Returns:
            The interest, ``[B, D]``.
        """
        if initial_state is None:
            initial_state = behaviour.new_zeros(behaviour.shape[0], behaviour.shape[2])
        states, _ = self.gru(behaviour, initial_state.unsqueeze(0).contiguous())  # [B, H, D]
        last = (lengths - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, states.shape[2])
        state = states.gather(1, last).squeeze(1)  # [B, D]
        state = torch.where((lengths > 0).unsqueeze(1), state, initial_state)
        interest: Tensor = self.norm(state)
        return interest
