"""What is evaluated: the next items of a split, each with the history before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_fofa.cloud.population import item_tokens, user_tokens
from recbole_fofa.data.dataset import POSITION
from recbole_fofa.data.sequences import Histories, IntArray
from recbole_fofa.errors import ConfigError, DataError

CHUNK = 256
"""Cases computed at once. Fixed, since the last digits depend on who is in a batch."""
_HISTORY_BINS = (1, 6, 21, 51, 201)
_QUARTERS = ("first", "second", "third", "fourth")


@dataclass(frozen=True)
class Cases:
    """One case for each row of a split: a user, a target, the items before it.

    Attributes:
        positions: Place of each target in ``histories``, ``[n]``.
        histories: All users' items.
        training: Places in ``histories`` that training knows, each user's first item included.
        user_tokens: Token of each user id.
        item_tokens: Token of each item id; item 0 is padding.
    """

    positions: IntArray
    histories: Histories
    training: IntArray
    user_tokens: Sequence[str]
    item_tokens: Sequence[str]

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def n_items(self) -> int:
        """Number of items, padding not counted."""
        return len(self.item_tokens) - 1

    @cached_property
    def users(self) -> IntArray:
        """User id of each case, ``[n]``."""
        return self.histories.users[self.positions]

    @cached_property
    def targets(self) -> IntArray:
        """Item id of each target, ``[n]``."""
        return self.histories.items[self.positions]

    @cached_property
    def history_lengths(self) -> IntArray:
        """Number of items before each target, ``[n]``."""
        return self.positions - self.histories.starts[self.positions]

    def chunks(self) -> Iterator[slice]:
        """Consecutive slices of :data:`CHUNK` cases."""
        for begin in range(0, len(self), CHUNK):
            yield slice(begin, min(begin + CHUNK, len(self)))

    def before(self, chosen: slice, newest: int, age: int = 0) -> tuple[Tensor, Tensor]:
        """Items before each target but for the ``age`` latest: ids ``[B, H]``, lengths ``[B]``."""
        ends = self.positions[chosen] - age
        starts = self.histories.starts[self.positions[chosen]]
        begins = np.maximum(starts, ends - newest)
        return self.histories.slices(begins, ends), torch.from_numpy(ends - begins)

    def seen(self, chosen: slice) -> Tensor:
        """All items before each target, however long ago, padded with 0, ``[B, S]``."""
        ends = self.positions[chosen]
        return self.histories.slices(self.histories.starts[ends], ends)

    def only(self, kept: NDArray[np.bool_]) -> Cases:
        """Some of the cases."""
        return replace(self, positions=self.positions[kept])

    @cached_property
    def digest(self) -> str:
        """16 characters over users, targets, histories and names; equal for equal cases."""
        found = hashlib.sha256(json.dumps([*self.item_tokens, *self.user_tokens]).encode())
        for values in (self.positions, self.histories.users, self.histories.items):
            found.update(np.ascontiguousarray(values).tobytes())
        return found.hexdigest()[:16]

    @cached_property
    def training_digest(self) -> str:
        """16 characters over the places that training knows."""
        return hashlib.sha256(np.ascontiguousarray(self.training).tobytes()).hexdigest()[:16]


def cases_of(eval_data: Any, train_data: Any) -> Cases:
    """The cases of an evaluation loader.

    Args:
        eval_data: RecBole's loader of a validation or test split of ours.
        train_data: The loader of its training split.

    Raises:
        ConfigError: If the data set has no histories.
        DataError: If the split is empty.
    """
    dataset, training = eval_data._dataset, train_data._dataset
    histories: Histories | None = getattr(dataset, "histories", None)
    if histories is None:
        raise ConfigError(
            f"{dataset.dataset_name} has no histories for this model: the device-adaptation "
            "evaluator reads sequential models on one .inter file (no benchmark_filename)"
        )
    positions = dataset.inter_feat[POSITION].numpy()
    if len(positions) == 0:
        raise DataError(f"{dataset.dataset_name} has no case to evaluate: its split is empty")
    known = histories.with_firsts(training.inter_feat[POSITION].numpy())
    return Cases(positions, histories, known, user_tokens(dataset), item_tokens(dataset))


class Slices:
    """Groups of cases that a report shows apart.

    ``activity``: quarters of the users by their number of items before the target, ties in the
    lower quarter. ``history``: that number in fixed bins. ``target``: whether training knows it.

    Args:
        cases: All cases; the borders of the quarters are theirs.
    """

    def __init__(self, cases: Cases) -> None:
        self.borders = np.quantile(cases.history_lengths, [0.25, 0.5, 0.75], method="lower")
        self.in_training = np.zeros(len(cases.item_tokens), dtype=bool)
        self.in_training[cases.histories.items[cases.training]] = True

    def masks(self, cases: Cases, chosen: slice) -> Mapping[str, NDArray[np.bool_]]:
        """Which cases of a slice are in each group, by name."""
        lengths = cases.history_lengths[chosen]
        quarter = np.searchsorted(self.borders, lengths)
        found = {
            f"activity: {name} quarter": quarter == number for number, name in enumerate(_QUARTERS)
        }
        for low, high in zip(_HISTORY_BINS, (*_HISTORY_BINS[1:], None), strict=True):
            name = f"history: {low} to {high - 1} items" if high else f"history: {low} or more"
            found[name] = (lengths >= low) & ((lengths < high) if high else True)
        known = self.in_training[cases.targets[chosen]]
        return {**found, "target: in training": known, "target: cold": ~known}
