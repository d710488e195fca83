"""Histories of item tokens as ids: unknown items are left out and counted."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from recbole_fofa.data.sequences import padded
from recbole_fofa.errors import DataError

Token = str | int


@dataclass(frozen=True)
class History:
    """Known items of one history, oldest first, and how many were unknown."""

    items: list[int]
    n_unknown: int


class Vocabulary:
    """Tokens and ids of items.

    Args:
        tokens: Of each item; the first has the id 1, since 0 is padding.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = ["[PAD]", *tokens]
        self._ids: Mapping[str, int] = {token: i for i, token in enumerate(tokens, start=1)}

    def __len__(self) -> int:
        """Rows of the item table, padding included."""
        return len(self.tokens)

    def history(self, tokens: Iterable[Token], where: str = "a history") -> History:
        """Look tokens up; numbers are looked up as they are written.

        Raises:
            DataError: If something in it is neither text nor a whole number.
        """
        if isinstance(tokens, (str, bytes)) or not isinstance(tokens, Iterable):
            raise DataError(f"{where} must be a list of item tokens, not {tokens!r}")
        ids, n_unknown = [], 0
        for token in tokens:
            row = self._ids.get(self._text(token, where))
            if row is None:
                n_unknown += 1
            else:
                ids.append(row)
        return History(ids, n_unknown)

    def candidates(self, tokens: Iterable[Token]) -> list[int]:
        """Look up items that may be recommended; unknown ones are left out with a warning.

        Raises:
            DataError: As :meth:`history`.
        """
        found = self.history(tokens, "candidates")
        if found.n_unknown:
            warnings.warn(
                f"{found.n_unknown} of {found.n_unknown + len(found.items)} candidates are unknown "
                "to the model and are left out",
                stacklevel=4,  # whoever calls recommend
            )
        return found.items

    @staticmethod
    def _text(token: Any, where: str) -> str:
        if isinstance(token, str):
            return token
        if isinstance(token, numbers.Integral) and not isinstance(token, bool):
            return str(int(token))
        raise DataError(f"{where} holds {token!r}: item tokens are text or whole numbers")


def newest(histories: Sequence[History], length: int) -> tuple[Tensor, Tensor]:
    """The newest items of each, padded on the right with 0, ``[B, length]``, and lengths ``[B]``.

    Args:
        histories: Each with at least one known item.
        length: Columns.
    """
    return padded([history.items[-length:] for history in histories], length)
