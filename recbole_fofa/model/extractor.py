"""Sequence extractor: recent behaviour to one interest vector (Figure 3b and 3c)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SequenceExtractor(nn.Module):
    """A gated recurrence whose state after the last item, normalised, is the interest of the user.

    ``h_t = (1 - z_t) h_(t-1) + z_t tanh(n_t)``, where gate and candidate read the item alone
    (minGRU, arXiv 2410.01201). The paper leaves the extractor open; DUET uses a GRU. Here the last
    state is a weighted sum of all candidates and of the initial state, computed at once, with no
    loop over the behaviour. The gates start with horizons between 1 and ``horizon`` items (after
    Tallec and Ollivier, ICLR 2018), so that the initial state, the place of the structural vector,
    is not forgotten before the behaviour ends. LayerNorm is ours: item embeddings start at a scale
    of 0.02, and without it all users would look alike to the heads that follow.

    Args:
        hidden_size: ``D``.
        horizon: Longest initial memory, in items.
    """

    def __init__(self, hidden_size: int, horizon: int) -> None:
        super().__init__()
        self.read = nn.Linear(hidden_size, 2 * hidden_size)
        with torch.no_grad():
            spread = torch.empty(hidden_size).uniform_(1.0, max(2.0, float(horizon)))
            self.read.bias[:hidden_size] = -spread.log()
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
        gate, candidate = self.read(behaviour).chunk(2, -1)  # [B, H, D] each
        positions = torch.arange(behaviour.shape[1], device=behaviour.device)
        inside = (positions < lengths.unsqueeze(1)).unsqueeze(2)  # [B, H, 1]
        forgotten = F.logsigmoid(-gate) * inside  # log(1 - z_t)
        # What is left of step t at the end: the product of 1 - z over all later steps.
        from_here = forgotten.flip(1).cumsum(1).flip(1)
        weights = torch.sigmoid(gate) * inside * (from_here - forgotten).exp()
        state = (weights * torch.tanh(candidate)).sum(1)  # [B, D]
        if initial_state is not None:
            state = state + from_here[:, 0].exp() * initial_state
        interest: Tensor = self.norm(state)
        return interest
