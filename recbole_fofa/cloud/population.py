"""Whom devices are adapted to: users, and the items that each has seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from recbole_fofa.data.sequences import Histories, IntArray
from recbole_fofa.errors import ConfigError
from recbole_fofa.processes import part_of


class People(Protocol):
    """Users in a fixed order, each with items: of a data set, or of a file that is read as needed.

    Attributes:
        item_tokens: Token of each row of the item table; row 0 is padding.
    """

    @property
    def item_tokens(self) -> Sequence[str]: ...

    def __len__(self) -> int:
        """Number of users."""

    def read(self, places: range) -> Iterator[tuple[str, IntArray]]:
        """Token and items, oldest first, of the users at some places, neighbours."""

    def digest(self) -> str:
        """Tells these users and items from others; see :func:`digest_of`."""


def digest_of(item_tokens: Sequence[str], people: Iterable[tuple[str, IntArray]]) -> str:
    """16 characters over the item table's tokens, and all users with their items."""
    digest = hashlib.sha256(json.dumps(item_tokens).encode())
    for user, items in people:
        digest.update(json.dumps([user, len(items)]).encode())
        digest.update(items.tobytes())
    return digest.hexdigest()[:16]


def places_of_part(people: People, number: int, of: int) -> range:
    """Places of the ``number``-th of ``of`` parts of the users, counted from 0.

    Raises:
        ConfigError: If there are fewer users than parts.
    """
    places = part_of(len(people), number, of)
    if not places:
        raise ConfigError(f"part {number + 1} of {of} has none of {len(people)} users")
    return places


@dataclass(frozen=True)
class Population:
    """:class:`People` of a data set, whose histories are in memory.

    Attributes:
        users: Their tokens.
        begins: For each, the place of the first item in ``histories``.
        ends: For each, the place after the newest item that counts.
        histories: All users' items.
        item_tokens: Token of each row of the item table; row 0 is padding.
    """

    users: list[str]
    begins: np.ndarray
    ends: np.ndarray
    histories: Histories
    item_tokens: list[str]

    def __len__(self) -> int:
        """Number of users."""
        return len(self.users)

    def read(self, places: range) -> Iterator[tuple[str, IntArray]]:
        """As :meth:`People.read`."""
        for place in places:
            yield self.users[place], self.histories.items[self.begins[place] : self.ends[place]]

    def digest(self) -> str:
        """As :meth:`People.digest`."""
        return digest_of(self.item_tokens, self.read(range(len(self))))


def population(dataset: Any, users: Sequence[str] | None = None) -> Population:
    """Users of a data set with all their interactions, the last ones included.

    Args:
        dataset: A :class:`FofaSequentialDataset` that was built.
        users: Tokens; all users in the order of the data if not given.

    Raises:
        ConfigError: If a user is unknown.
    """
    histories: Histories | None = getattr(dataset, "histories", None)
    if histories is None:
        raise ConfigError(
            f"{dataset.dataset_name} comes in split files (benchmark_filename), which hold no "
            "whole histories: devices are adapted from data of one .inter file"
        )
    tokens = user_tokens(dataset)
    is_last = np.r_[histories.users[1:] != histories.users[:-1], True]
    ends = {tokens[histories.users[place]]: int(place) for place in np.flatnonzero(is_last)}
    chosen = list(ends) if users is None else list(dict.fromkeys(users))
    unknown = [user for user in chosen if user not in ends]
    if unknown:
        raise ConfigError(
            f"{len(unknown)} of {len(chosen)} users are not in {dataset.dataset_name}, the first "
            f"is {unknown[0]!r}: name users as in the .inter file (--users)"
        )
    last = np.array([ends[user] for user in chosen], dtype=np.int64)
    return Population(chosen, histories.starts[last], last + 1, histories, item_tokens(dataset))


def item_tokens(dataset: Any) -> list[str]:
    """Token of each row of the item table; row 0 is padding."""
    return _tokens(dataset, dataset.iid_field)


def user_tokens(dataset: Any) -> list[str]:
    """Token of each user id; 0 is padding."""
    return _tokens(dataset, dataset.uid_field)


def _tokens(dataset: Any, field: str) -> list[str]:
    return [str(token) for token in dataset.field2id_token[field]]
