"""From logits to a structure: which blocks a user's network is assembled from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

DROP, KEEP = 0, 1
"""Class order of the logits ``[B, L, 2]``, the same in training and at inference."""


def keep_margins(logits: Tensor) -> Tensor:
    """``logit_keep - logit_drop``: ``[B, L, 2]`` to ``[B, L]``."""
    return logits[..., KEEP] - logits[..., DROP]


def keep_probabilities(logits: Tensor) -> Tensor:
    """Soft keep probability of each block: ``[B, L, 2]`` to ``[B, L]``."""
    return logits.softmax(-1)[..., KEEP]


def select_structure(
    margins: Tensor, block_macs: Sequence[int], budget: Tensor | None = None
) -> Tensor:
    """The feasible subset of blocks with the largest sum of margins; exact, without randomness.

    Without a budget these are the blocks with a positive margin, that is, the argmax of the
    logits. At least one block is kept unless the budget forbids it (ours: a network of no
    blocks ranks by the last item alone).

    Args:
        margins: Keep margins, ``[B, L]``.
        block_macs: MACs of each block, ``L`` numbers.
        budget: Share of ``sum(block_macs)`` that each user may spend, ``[B]``; never exceeded.
            Best in float64: in float32, 0.9 is less than 9 of 10 equal blocks.

    Returns:
        0 or 1 for each block, ``[B, L]``, in the type of ``margins``.
    """
    if budget is None:
        best = margins.argmax(1, keepdim=True)
        return (margins > 0).to(margins.dtype).scatter(1, best, 1.0)
    subsets = _all_subsets(margins)  # [2^L, L]; the first is the empty one
    # Costs are whole numbers below 2^53, exact in float64; a share times their sum is rounded.
    macs = torch.tensor(block_macs, dtype=torch.float64, device=margins.device)
    costs = subsets.to(torch.float64) @ macs  # [2^L]
    limit = budget.to(torch.float64).unsqueeze(1) * macs.sum() * (1 + 1e-12)  # [B, 1]
    values = (margins @ subsets.T).masked_fill(costs > limit, -torch.inf)  # [B, 2^L]
    values[:, 0] = torch.finfo(values.dtype).min  # worse than any feasible block, yet feasible
    return subsets[values.argmax(1)]


def sample_structure(
    logits: Tensor,
    temperature: float,
    block_macs: Sequence[int],
    budget: Tensor | None = None,
) -> Tensor:
    """Gumbel-Softmax sample: hard forward, soft backward (straight-through; section on Fig. 3b).

    The same selection as at inference, on logits with Gumbel noise. The forward value is exactly
    0 or 1; the gradient is that of the keep probability at ``temperature``.

    Args:
        logits: ``[B, L, 2]``.
        temperature: Of the softmax that carries the gradient, > 0.
        block_macs: MACs of each block, ``L`` numbers.
        budget: As in :func:`select_structure`.

    Returns:
        ``[B, L]``.
    """
    tiny = torch.finfo(logits.dtype).tiny
    gumbel = -torch.empty_like(logits).exponential_().clamp_min(tiny).log()
    noisy = logits + gumbel
    hard = select_structure(keep_margins(noisy).detach(), block_macs, budget)
    soft = (noisy / temperature).softmax(-1)[..., KEEP]
    # soft - soft is exactly 0, so that a dropped block adds exactly nothing.
    return hard + (soft - soft.detach())


def count_structures(structure: Tensor) -> dict[str, int]:
    """Users of each structure of ``[n, L]`` by its code, such as ``"101"``; most common first."""
    codes = ("".join("01"[bit] for bit in row) for row in (structure > 0).int().tolist())
    return dict(Counter(codes).most_common())


def _all_subsets(like: Tensor) -> Tensor:
    n_layers = like.shape[1]
    codes = torch.arange(2**n_layers, device=like.device).unsqueeze(1)
    bits = codes >> torch.arange(n_layers, device=like.device)
    return (bits & 1).to(like.dtype)
