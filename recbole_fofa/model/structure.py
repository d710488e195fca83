"""From logits to a structure: which blocks a user's network is assembled from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from recbole_fofa.model.batch import WHOLE, Noise

DROP, KEEP = 0, 1
"""Class order of the logits ``[B, L, 2]``, the same in training and at inference."""


def keep_margins(logits: Tensor) -> Tensor:
    """``logit_keep - logit_drop``: ``[B, L, 2]`` to ``[B, L]``."""
    return logits[..., KEEP] - logits[..., DROP]


def keep_probabilities(logits: Tensor) -> Tensor:
    """Soft keep probability of each block: ``[B, L, 2]`` to ``[B, L]``."""
    return logits.softmax(-1)[..., KEEP]


def all_structures(n_layers: int, device: torch.device | None = None) -> Tensor:
    """Every structure of ``L`` blocks, 0 or 1 for each block, ``[2^L, L]``.

    Row ``i`` keeps the blocks whose bit is set in ``i``; the first row is the empty structure.
    """
    codes = torch.arange(2**n_layers, device=device).unsqueeze(1)
    return codes >> torch.arange(n_layers, device=device) & 1


def within_budget(block_macs: Sequence[int], budget: Tensor) -> Tensor:
    """Which structures cost no more than a share of all blocks.

    Args:
        block_macs: MACs of each block, ``L`` numbers.
        budget: Share of ``sum(block_macs)`` that each user may spend, ``[B]``. Best in float64:
            in float32, 0.9 is less than 9 of 10 equal blocks.

    Returns:
        One boolean for each row of :func:`all_structures`, ``[B, 2^L]``.
    """
    # Costs are whole numbers below 2^53, exact in float64; a share times their sum is rounded.
    macs = torch.tensor(block_macs, dtype=torch.float64, device=budget.device)
    costs = all_structures(len(block_macs), budget.device).to(torch.float64) @ macs  # [2^L]
    return costs <= budget.to(torch.float64).unsqueeze(1) * macs.sum() * (1 + 1e-12)


def select_structure(margins: Tensor, allowed: Tensor | None = None) -> Tensor:
    """The allowed subset of blocks with the largest sum of margins; exact, without randomness.

    If all are allowed these are the blocks with a positive margin, that is, the argmax of the
    logits. At least one block is kept unless that is forbidden (ours: a network of no blocks
    ranks by the last item alone).

    Args:
        margins: Keep margins, ``[B, L]``.
        allowed: For each row of :func:`all_structures` whether it may be chosen, ``[B, 2^L]``,
            or ``[2^L]`` for all users; the empty structure always may.

    Returns:
        0 or 1 for each block, ``[B, L]``, in the type of ``margins``.
    """
    if allowed is None:
        best = margins.argmax(1, keepdim=True)
        return (margins > 0).to(margins.dtype).scatter(1, best, 1.0)
    structures = all_structures(margins.shape[1], margins.device).to(margins.dtype)
    values = (margins @ structures.T).masked_fill(~allowed, -torch.inf)  # [B, 2^L]
    values[:, 0] = torch.finfo(values.dtype).min  # worse than any other, yet allowed
    return structures[values.argmax(1)]


def sample_structure(
    logits: Tensor,
    temperature: float,
    allowed: Tensor | None = None,
    noise: Noise = WHOLE.exponential,
) -> Tensor:
    """Gumbel-Softmax sample: hard forward, soft backward (straight-through; section on Fig. 3b).

    The same selection as at inference, on logits with Gumbel noise. The forward value is exactly
    0 or 1; the gradient is that of the keep probability at ``temperature``.

    Args:
        logits: ``[B, L, 2]``.
        temperature: Of the softmax that carries the gradient, > 0.
        allowed: As in :func:`select_structure`.
        noise: Where the randomness comes from.

    Returns:
        ``[B, L]``.
    """
    tiny = torch.finfo(logits.dtype).tiny
    gumbel = -noise(logits).clamp_min(tiny).log()
    noisy = logits + gumbel
    hard = select_structure(keep_margins(noisy).detach(), allowed)
    soft = (noisy / temperature).softmax(-1)[..., KEEP]
    # soft - soft is exactly 0, so that a dropped block adds exactly nothing.
    return hard + (soft - soft.detach())


def count_structures(structure: Tensor) -> dict[str, int]:
    """Users of each structure of ``[n, L]`` by its code, such as ``"101"``; most common first."""
    codes = ("".join("01"[bit] for bit in row) for row in (structure > 0).int().tolist())
    return dict(Counter(codes).most_common())
