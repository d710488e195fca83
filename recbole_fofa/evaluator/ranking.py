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
from recbole_fofa.model.repeats import Repeats, among

_CELLS = 4_000_000
"""Scores held at once: 16 MB in float32."""
_WIDTH = 64
"""Products are of so many items, or twice, three times as many. Libraries of linear algebra compute
what is left over in another order, and round equal items differently there."""


class Scores(Protocol):
    """Scores of a batch of users, for the items that are asked for."""

    n_items: int
    """Rows of the item table, padding included."""

    def of_range(self, begin: int, end: int) -> Tensor:
        """Of items ``begin .. end - 1``, ``[B, end - begin]``."""

    def of_items(self, items: Tensor) -> Tensor:
        """Of each user's own items ``[B, C]``, ``[B, C]``."""


class DotProducts:
    """User vectors ``[B, D]`` with an item table ``[N, D]``, and what is added to some scores."""

    def __init__(self, vectors: Tensor, table: Tensor, repeats: Repeats | None = None) -> None:
        self.vectors, self.table, self.repeats = vectors, table, repeats
        self.n_items = len(table)

    def of_range(self, begin: int, end: int) -> Tensor:
        """See :class:`Scores`."""
        # Of a single row torch takes another kernel, which rounds equal items differently.
        rows = self.vectors if len(self.vectors) > 1 else self.vectors.expand(2, -1)
        items = self.table[begin:end]
        if left_over := len(items) % _WIDTH:
            items = torch.nn.functional.pad(items, (0, 0, 0, _WIDTH - left_over))
        scores = (rows @ items.T)[: len(self.vectors), : end - begin]
        return scores if self.repeats is None else self.repeats.added_to(scores, begin)

    def of_items(self, items: Tensor) -> Tensor:
        """See :class:`Scores`."""
        scores = (self.vectors.unsqueeze(1) * self.table[items]).sum(-1)
        return scores if self.repeats is None else scores + self.repeats.of_items(items)


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


class _Parts:
    """All items in ranges of one width.

    A target's own score comes from the same product as those of the others, so that equal items
    have equal scores to the last digit.

    Attributes:
        ranges: ``begin``, first item that no range before has, ``end``.
    """

    def __init__(self, scores: Scores, width: int) -> None:
        self._scores = scores
        width = min(max(_WIDTH, width // _WIDTH * _WIDTH), scores.n_items - 1)
        begins = range(1, scores.n_items, width)
        last = scores.n_items - width
        self.ranges = [(min(b, last), b, min(b, last) + width) for b in begins]
        self._only = scores.of_range(1, scores.n_items) if len(self.ranges) == 1 else None

    def of(self, begin: int, end: int) -> Tensor:
        """Scores of a range, ``[B, end - begin]``; not to be changed."""
        return self._scores.of_range(begin, end) if self._only is None else self._only

    def own_scores(self, targets: Tensor) -> Tensor:
        """Of each user's target, ``[B, 1]``."""
        own = self._scores.of_items(targets.unsqueeze(1))
        for begin, counted, end in self.ranges:
            here = (targets >= counted) & (targets < end)
            if bool(here.any()):
                places = (targets - begin).clamp(0, end - begin - 1).unsqueeze(1)
                own = torch.where(here.unsqueeze(1), self.of(begin, end).gather(1, places), own)
        return own


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
    parts = _Parts(scores, max(1, _CELLS // len(targets)))
    own = parts.own_scores(targets)
    excluded = targets.unsqueeze(1) if seen is None else torch.cat([targets[:, None], seen], 1)
    ahead = torch.zeros_like(targets)
    for begin, counted, end in parts.ranges:
        part = torch.nn.functional.pad(parts.of(begin, end), (0, 1))
        # What is outside of this range goes to the padded column, which nobody reads.
        inside = (excluded >= begin) & (excluded < end)
        part.scatter_(1, torch.where(inside, excluded - begin, end - begin), -torch.inf)
        ahead += _n_ahead(part[:, counted - begin : -1], own)
    ranks = ahead + 1
    if seen is not None:
        ranks = ranks.masked_fill(among(targets.unsqueeze(1), seen).squeeze(1), 0)
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
    own = scores.of_items(targets.unsqueeze(1))
    is_target = candidates == targets.unsqueeze(1)
    excluded = is_target | (candidates == 0)
    if seen is not None:
        is_seen = among(candidates, seen)
        excluded |= is_seen
        is_target &= ~is_seen
    others = scores.of_items(candidates).masked_fill(excluded, -torch.inf)
    return (_n_ahead(others, own) + 1) * is_target.any(1)


def _n_ahead(others: Tensor, own: Tensor) -> Tensor:
    if bool(others.isnan().any()) or bool(own.isnan().any()):
        raise TrainingDivergedError("scores are not a number: the model's parameters are damaged")
    return (others >= own).sum(1)
