"""Files of histories: a line for each, read in a stream.

In ``.jsonl`` files a line is a list of item tokens, or an object with ``history`` and, if wanted,
``user``; in others it is tokens with blanks between them, after the user and a tab if wanted (what
is before the first tab is the user). An empty line is an empty history.
"""

from __future__ import annotations

import json
import stat
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from recbole_fofa.cloud.population import digest_of
from recbole_fofa.data.sequences import IntArray
from recbole_fofa.errors import DataError
from recbole_fofa.serving.histories import History, Vocabulary


def read_histories(
    source: Path, vocabulary: Vocabulary, digest: Any = None
) -> Iterator[tuple[Any, History]]:
    """User (or ``None``) and history of each line.

    Args:
        source: The file.
        vocabulary: The model's items.
        digest: Of :mod:`hashlib`; updated with every line's bytes if given.

    Raises:
        DataError: If the file cannot be read, or a line is malformed; with its number.
    """
    parse = _parse_json if source.suffix == ".jsonl" else _parse_text
    try:
        if not stat.S_ISREG(source.stat().st_mode) and not source.is_dir():
            # Of a pipe, the second reading would find nothing.
            raise DataError(f"{source} is no file: histories are read twice, write them to a file")
        with source.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if digest is not None:
                    digest.update(line)
                where = f"{source}, line {number}"
                try:
                    user, tokens = parse(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{where}: {error}") from None
                yield user, vocabulary.history(tokens, where)
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror}") from None


class HistoryFile:
    """The users of a file, of whom devices are adapted to one after the other (``People``).

    Every line must name its user, and no two the same one. All of that is checked here, in one
    pass over the file. Nothing of a user is held but, during the check, 8 bytes: a hash of the
    name (9 when they are compared, up to 17 while the array moves to grow). Users whose hashes are
    equal are compared by their names, in a second pass.

    Args:
        source: The file.
        vocabulary: The model's items.

    Attributes:
        n_unknown: Items of all histories that the model does not know; they are left out.
        n_without_items: Users without a known item; adapted to as to someone who has seen nothing.

    Raises:
        DataError: If the file cannot be read or is empty, or a line is malformed, names no user or
            one that was named before; with its number.
    """

    def __init__(self, source: str | Path, vocabulary: Vocabulary) -> None:
        self._source, self._vocabulary = Path(source), vocabulary
        self.n_unknown = self.n_without_items = 0
        hashes = array("q")
        self._digest = digest_of(self.item_tokens, self._tallied(hashes))
        self._n_users = len(hashes)
        if not hashes:
            raise DataError(f"{source} has no line: give a line for each user")
        if twice := _repeated(hashes):
            self._refuse_repeated(twice)

    @property
    def item_tokens(self) -> list[str]:
        """Token of each row of the item table; row 0 is padding."""
        return self._vocabulary.tokens

    def __len__(self) -> int:
        """Number of users."""
        return self._n_users

    def read(self, places: range) -> Iterator[tuple[str, IntArray]]:
        """Token and known items, oldest first, of the users of some lines, neighbours."""
        lines = read_histories(self._source, self._vocabulary)
        for user, history in islice(lines, places.start, places.stop):
            yield str(user), np.array(history.items, dtype=np.int64)

    def digest(self) -> str:
        """Tells these users and their known items from others."""
        return self._digest

    def words(self) -> str:
        """What was left out, for the line that is printed."""
        return (
            f"{self.n_unknown} unknown items of {self._source} left out, {self.n_without_items} of "
            f"its {len(self)} users have no known item"
        )

    def _tallied(self, hashes: array[int]) -> Iterator[tuple[str, IntArray]]:
        """All users and their items; notes each user's hash and what is left out."""
        for number, (user, history) in enumerate(
            read_histories(self._source, self._vocabulary), start=1
        ):
            name = _name(user, f"{self._source}, line {number}")
            hashes.append(hash(name))
            self.n_unknown += history.n_unknown
            self.n_without_items += not history.items
            yield name, np.array(history.items, dtype=np.int64)

    def _refuse_repeated(self, hashes: set[int]) -> None:
        """Users with these hashes differ, or it is told which one comes twice."""
        lines: dict[str, int] = {}
        histories = read_histories(self._source, self._vocabulary)
        for number, (user, _) in enumerate(histories, start=1):
            name = str(user)
            if hash(name) in hashes and lines.setdefault(name, number) != number:
                raise DataError(
                    f"{self._source}, line {number}: user {name!r} has line {lines[name]} already: "
                    "give each user one line, with the whole history"
                )


def _repeated(hashes: array[int]) -> set[int]:
    """Those that are there more than once; sorts them."""
    values = np.frombuffer(hashes, dtype=np.int64)
    values.sort()
    return set(values[1:][values[1:] == values[:-1]].tolist())


def _name(user: Any, where: str) -> str:
    if isinstance(user, bool) or not isinstance(user, (str, int)) or user == "":
        raise DataError(
            f"{where} names no user: begin it with the user and a tab, in .jsonl files write "
            '{"user": ..., "history": [...]} with a text or whole number'
        )
    return str(user)


def _parse_json(line: str) -> tuple[Any, Any]:
    content = json.loads(line) if line.strip() else []
    if isinstance(content, list):
        return None, content
    if not isinstance(content, dict) or not isinstance(content.get("history"), list):
        raise ValueError('needs a list of tokens, or {"user": ..., "history": [...]}')
    json.dumps(content.get("user"), ensure_ascii=False).encode()  # as it will be written
    return content.get("user"), content["history"]


def _parse_text(line: str) -> tuple[Any, Any]:
    first, tab, rest = line.partition("\t")
    return (first, rest.split()) if tab else (None, first.split())
