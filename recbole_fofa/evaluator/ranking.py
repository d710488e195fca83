"""Ranks of targets, without a matrix of all users and all items.

A rank is 1 plus the number of other items whose score is at least the target's: ties count
against the target, so that a model that gives everything one score gets no credit. 0 stands for
a target that is not ranked at all.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from recbole_fofa.errors import TrainingDivergedError

_CELLS = 4_000_000
"""Scores held at once: 16 MB in float32."""


class Scores(Protocol):
    """Scores of a batch of users, for the items that are asked for."""

    n_items: int
    """Rows of the item table, padding included."""

    def of_range(self, begin: int, end: int) -> Tensor:
        """Of items ``begin .. end - 1``, ``[B, end - begin]``."""

    def of_items(self, items: Tensor) -> Tensor:
        """Of each user's own items ``[B, C]``, ``[B, C]``."""


class DotProducts:
    """User vectors ``[B, D]`` with an item table ``[N, D]``."""

    def __init__(self, vectors: Tensor, table: Tensor) -> None:
        self.vectors, self.table = vectors, table
        self.n_items = len(table)

    def of_range(self, begin: int, end: int) -> Tensor:
        """See :class:`Scores`."""
        return self.vectors @ self.table[begin:end].T

    def of_items(self, items: Tensor) -> Tensor:
        """See :class:`Scores`."""
        return torch.einsum("bd,bcd->bc", self.vectors, self.table[items])


class ScoreMatrix:
    """Scores that a model gives for all items at once, ``[B, N]``."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores
        self.n_items = scores.shape[1]

    def of_range(self, begin: int, end: int) -> Tensor:
        """See :class:`Scores`."""
        return self.scores[:, begin:end].clone()

    def of_items(self, items: Tensor) -> Tensor:
        """See :class:`Scores`."""
        return self.scores.gather(1, items)


def full_ranks(scores: Scores, targets: Tensor, seen: Tensor | None = None) -> Tensor:
    """Ranks among all items, ``[B]``; memory does not grow with their number.

    Args:
        scores: Of the batch.
        targets: Item ids, ``[B]``.
        seen: Items that are not ranked, padded with 0, ``[B, S]``; a target among them is not
            ranked either.

    Raises:
        TrainingDivergedError: If a score is not a number.
    """
    own = _own_scores(scores, targets)
    excluded = targets.unsqueeze(1) if seen is None else torch.cat([targets[:, None], seen], 1)
    ahead = torch.zeros_like(targets)
    step = max(1, _CELLS // len(targets))
    for begin in range(1, scores.n_items, step):
        end = min(begin + step, scores.n_items)
        part = torch.nn.functional.pad(scores.of_range(begin, end), (0, 1))
        # What is outside of this range goes to the padded column, which nobody reads.
        inside = (excluded >= begin) & (excluded < end)
        part.scatter_(1, torch.where(inside, excluded - begin, end - begin), -torch.inf)
        ahead += _n_ahead(part[:, :-1], own)
    ranks = ahead + 1
    if seen is not None:
        ranks = ranks.masked_fill(_among(targets.unsqueeze(1), seen).squeeze(1), 0)
    return ranks


def candidate_ranks(
    scores: Scores, targets: Tensor, candidates: Tensor, seen: Tensor | None = None
) -> Tensor:
    """Ranks among each user's own candidates, ``[B]``; 0 where the target is not among them.

    Args:
        scores: Of the batch.
        targets: Item ids, ``[B]``.
        candidates: Distinct item ids, padded with 0, ``[B, C]``.
        seen: As in :func:`full_ranks`.

    Raises:
        TrainingDivergedError: If a score is not a number.
    """
    own = _own_scores(scores, targets)
    is_target = candidates == targets.unsqueeze(1)
    excluded = is_target | (candidates == 0)
    if seen is not None:
        is_seen = _among(candidates, seen)
        excluded |= is_seen
        is_target &= ~is_seen
    others = scores.of_items(candidates).masked_fill(excluded, -torch.inf)
    return (_n_ahead(others, own) + 1) * is_target.any(1)


def _among(items: Tensor, seen: Tensor) -> Tensor:
    """Whether each of ``[B, C]`` is in its row of ``[B, S]``, ``[B, C]``."""
    ordered = seen.sort(1).values
    places = torch.searchsorted(ordered, items).clamp(max=seen.shape[1] - 1)
    return ordered.gather(1, places) == items


def _own_scores(scores: Scores, targets: Tensor) -> Tensor:
    return scores.of_items(targets.unsqueeze(1))


def _n_ahead(others: Tensor, own: Tensor) -> Tensor:
    if bool(others.isnan().any()) or bool(own.isnan().any()):
        raise TrainingDivergedError("scores are not a number: the model's parameters are damaged")
    return (others >= own).sum(1)
