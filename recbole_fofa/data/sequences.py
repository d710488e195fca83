"""All users' histories as flat arrays, and slices of them as padded batches.

Memory is linear in the interactions: a prefix or a window is two numbers until it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Histories:
    """Histories of all users, one after the other.

    Attributes:
        users: User id of each interaction, non-decreasing, ``[n]``.
        items: Item id of each interaction, ``[n]``.
        times: Timestamp of each interaction in float64, non-decreasing within a user, ``[n]``.
        starts: For each interaction, the position of its user's first one, ``[n]``.
    """

    users: IntArray
    items: IntArray
    times: NDArray[np.float64]
    starts: IntArray

    @classmethod
    def of(
        cls, users: IntArray, items: IntArray, times: NDArray[np.float64] | None = None
    ) -> Histories:
        """From columns that are already in the order of (user, time)."""
        users = np.asarray(users, dtype=np.int64)
        first = np.r_[True, users[1:] != users[:-1]] if len(users) else np.zeros(0, dtype=bool)
        starts = np.maximum.accumulate(np.where(first, np.arange(len(users)), 0))
        if times is None:
            times = np.arange(len(users), dtype=np.float64)
        return cls(users, np.asarray(items, dtype=np.int64), times, starts.astype(np.int64))

    def with_firsts(self, positions: IntArray) -> IntArray:
        """Positions of targets, and of their users' first items, which are nobody's target."""
        return np.union1d(positions, self.starts[positions])

    def slices(self, begins: IntArray, ends: IntArray, width: int | None = None) -> Tensor:
        """Items ``begins[i] .. ends[i] - 1`` of each row, padded on the right with 0.

        Args:
            begins: First position of each row, ``[B]``.
            ends: Position after the last of each row, ``[B]``.
            width: Columns of the result; the longest row if not given.

        Returns:
            ``[B, width]``.
        """
        lengths = ends - begins
        columns = np.arange(width if width is not None else max(1, int(lengths.max(initial=0))))
        positions = begins[:, None] + columns
        inside = columns < lengths[:, None]
        return torch.from_numpy(np.where(inside, self.items[np.where(inside, positions, 0)], 0))

    def before(self, positions: IntArray, length: int, width: int | None = None) -> Tensor:
        """The latest ``length`` items of the same user before each position, ``[B, width]``."""
        return self.slices(np.maximum(self.starts[positions], positions - length), positions, width)

    def n_before(self, positions: IntArray, length: int) -> IntArray:
        """How many items :meth:`before` gives for each position, ``[B]``."""
        return np.minimum(positions - self.starts[positions], length)


def padded(rows: Sequence[ArrayLike], width: int | None = None) -> tuple[Tensor, Tensor]:
    """Items of each row, padded on the right with 0, ``[B, width]``, and lengths ``[B]``.

    Args:
        rows: Items of each; none is longer than ``width``.
        width: Columns; the longest row, or 1 if all are empty, if not given.
    """
    arrays = [np.asarray(row, dtype=np.int64) for row in rows]
    lengths = np.array([len(array) for array in arrays], dtype=np.int64)
    table = np.zeros((len(arrays), width or max(1, int(lengths.max(initial=0)))), dtype=np.int64)
    for row, array in zip(table, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(table), torch.from_numpy(lengths)
