"""Losses: next-item losses and the structure term (section on training; design is ours)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_fofa.model.batch import WHOLE, Batch
from recbole_fofa.model.structure import keep_probabilities


def pairwise_scores(hidden: Tensor, items: Tensor, item_table: Tensor) -> Tensor:
    """Dot product of each hidden state ``[M, D]`` with its own item ``[M]``: ``[M]``."""
    return (hidden * F.embedding(items, item_table)).sum(-1)


def binary_cross_entropy(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of ``-log s(positive) - log(1 - s(negative))``, both ``[M]`` (SASRec, equation 6)."""
    return F.softplus(-positive).mean() + F.softplus(negative).mean()


def bayesian_personalized_ranking(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of ``-log s(positive - negative)``, both ``[M]`` (Rendle et al., UAI 2009)."""
    return F.softplus(negative - positive).mean()


def structure_term(logits: Tensor, target_keep_rate: float, batch: Batch = WHOLE) -> Tensor:
    """``(mean keep probability - target)^2``: a target, not a race to zero (ours).

    On the soft probabilities, averaged over users and blocks before the target is subtracted
    (as ConvNet-AIG averages over a batch), so that users may differ while the mean is held.
    Both sides count: blocks that have not learned anything yet are better dropped, and without
    a pull from below the gates of a young network close for everybody and stay closed.

    Args:
        logits: ``[B, L, 2]``.
        target_keep_rate: Mean keep probability that is aimed at, in [0, 1].
        batch: What these users are a part of; if not given, they are all.
    """
    rate = batch.mean_over_rows(keep_probabilities(logits).mean())
    return (rate - target_keep_rate) ** 2


def budget_term(
    logits: Tensor,
    block_macs: Sequence[int],
    budget: Tensor,
    budgets: Tensor | None = None,
    batch: Batch = WHOLE,
) -> Tensor:
    """The structure term with each user's budget as the target (ours).

    ``(mean expected share of MACs - budget)^2`` over the users of one budget, averaged over
    budgets. Users of one budget may differ while their mean is held: a larger budget is used, and
    a smaller one is not met by the hard limit alone.

    Args:
        logits: ``[B, L, 2]``.
        block_macs: MACs of each block, ``L`` numbers.
        budget: Share of ``sum(block_macs)`` that each user may spend, ``[B]``.
        budgets: All that ``budget`` may hold, in rising order; if not given, what it does hold.
        batch: What these users are a part of; if not given, they are all.
    """
    macs = logits.new_tensor(block_macs)
    spent = keep_probabilities(logits) @ (macs / macs.sum())  # [B]
    budgets = torch.unique(budget) if budgets is None else budgets
    columns = torch.stack([spent, torch.ones_like(spent)], 1)  # [B, 2]
    group = torch.searchsorted(budgets, budget)
    both = batch.sum(columns.new_zeros(len(budgets), 2).index_add(0, group, columns))
    found = both[:, 1] > 0
    (sums, sizes), aims = both[found].unbind(1), budgets[found].to(spent.dtype)
    term: Tensor = ((sums / sizes - aims) ** 2).mean()
    return term
