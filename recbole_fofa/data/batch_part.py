"""A process's part of a batch that several processes share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from recbole.data.interaction import Interaction

from recbole_fofa.data.sequences import IntArray
from recbole_fofa.processes import Place


@dataclass(frozen=True)
class BatchPart:
    """Which rows of a batch are this process's.

    Attributes:
        n_rows: Of the whole batch.
        rows: Numbers of those that are here. Every second one with two processes, and so on: rows
            stand in the order of their lengths. There is always one to compute with, the first
            where the batch has none left for this process; its shares are 0 then.
        row_share: Share of the whole batch's rows.
        target_share: Share of the whole batch's targets.
    """

    n_rows: int
    rows: IntArray
    row_share: float
    target_share: float

    @classmethod
    def of(cls, place: Place, n_targets: IntArray) -> BatchPart:
        """A process's part.

        Args:
            place: Of the process.
            n_targets: Targets of each row of the whole batch, ``[n]``, ``n >= 1``.
        """
        n_rows = len(n_targets)
        own = np.arange(place.rank, n_rows, place.world_size)
        rows = own if len(own) else np.zeros(1, dtype=np.int64)
        targets = n_targets[own].sum() / n_targets.sum()
        return cls(n_rows, rows, len(own) / n_rows, float(targets))


def part_of(interaction: Interaction, rows: IntArray) -> Interaction:
    """Some rows of a batch."""
    return Interaction({name: value[rows] for name, value in interaction.interaction.items()})


class PartLoader:
    """A loader of RecBole's whose batches are those of all processes, cut to this one's rows.

    Every process makes the whole batch, so that all draw the same order, the same negatives and
    the same masks as one process would.

    Args:
        loader: With the batch size of all processes; its other attributes stay reachable.
        place: Of this process.

    Attributes:
        part: What the latest batch is a part of.
    """

    def __init__(self, loader: Any, place: Place) -> None:
        self._loader = loader
        self._place = place
        self.part: BatchPart | None = None

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Interaction]:
        for batch in self._loader:
            self.part = BatchPart.of(self._place, np.ones(len(batch), dtype=np.int64))
            yield part_of(batch, self.part.rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
