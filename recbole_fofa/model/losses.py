"""Losses: next-item losses and the structure term (section on training; design is ours)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_fofa.model.structure import keep_probabilities


def cross_entropy(hidden: Tensor, targets: Tensor, item_table: Tensor) -> Tensor:
    """Mean softmax loss over all items.

    Args:
        hidden: One hidden state for each target, ``[M, D]``.
        targets: Item ids, ``[M]``.
        item_table: Embeddings of all items, padding at row 0, ``[N, D]``.
    """
    return F.cross_entropy(hidden @ item_table.T, targets)


def pairwise_scores(hidden: Tensor, items: Tensor, item_table: Tensor) -> Tensor:
    """Dot product of each hidden state ``[M, D]`` with its own item ``[M]``: ``[M]``."""
    return (hidden * F.embedding(items, item_table)).sum(-1)


def binary_cross_entropy(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of ``-log s(positive) - log(1 - s(negative))``, both ``[M]`` (SASRec, equation 6)."""
    return F.softplus(-positive).mean() + F.softplus(negative).mean()


def bayesian_personalized_ranking(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of ``-log s(positive - negative)``, both ``[M]`` (Rendle et al., UAI 2009)."""
    return F.softplus(negative - positive).mean()


def structure_term(logits: Tensor, target_keep_rate: float) -> Tensor:
    """``relu(mean keep probability - target)^2``: a target, not a race to zero.

    On the soft probabilities, averaged over users and blocks before the target is subtracted
    (as ConvNet-AIG averages over a batch), so that users may differ while the mean is held.

    Args:
        logits: ``[B, L, 2]``.
        target_keep_rate: Mean keep probability above which the term grows, in [0, 1].
    """
    return torch.relu(keep_probabilities(logits).mean() - target_keep_rate) ** 2
