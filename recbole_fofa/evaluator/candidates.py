"""Fixed candidates: files from which every model ranks the same items.

A file is a plain array of item ids, one row for each case, read piece by piece; beside it lies a
``.json`` that says what it is of. Draws depend on the seed and the case alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_fofa.data.sequences import IntArray
from recbole_fofa.errors import ConfigError, DataError
from recbole_fofa.evaluator.cases import Cases
from recbole_fofa.evaluator.retrieval import Retriever
from recbole_fofa.whole_file import whole_file, write_whole

_KIND = re.compile(r"(uni|pop|retrieval)([1-9][0-9]*)")


@dataclass(frozen=True)
class CandidateInfo:
    """What a file of candidates is of.

    Attributes:
        kind: ``uni99`` and ``pop99``: the target and 99 items that the user never had, drawn
            uniformly or by popularity in training; ``retrieval100``: the 100 best of
            :class:`Retriever`, whether the target is among them or not.
        seed: Of the draws.
        without_history: Whether items before the target are left out (``uni`` and ``pop``
            never have any).
        cases: Digest of the cases.
        digest: 16 characters over the rows.
        recall: Share of cases whose target is among the candidates.
        training: Digest of what training knows, which ``pop`` and ``retrieval`` draw from.
    """

    kind: str
    seed: int
    without_history: bool
    cases: str
    digest: str
    recall: float
    training: str = ""


class Candidates:
    """Rows of a file, read when they are asked for."""

    def __init__(self, info: CandidateInfo, rows: np.ndarray, which: IntArray) -> None:
        self.info = info
        self._rows = rows
        self._which = which

    @property
    def width(self) -> int:
        """Candidates of a case."""
        return self._rows.shape[1]

    def of(self, chosen: slice) -> Tensor:
        """Item ids of some cases, padded with 0, ``[B, C]``."""
        return torch.from_numpy(self._rows[self._which[chosen]].astype(np.int64))

    def only(self, kept: NDArray[np.bool_]) -> Candidates:
        """Those of some of the cases."""
        return Candidates(self.info, self._rows, self._which[kept])


def width_of(kind: str) -> int | None:
    """Candidates of a case for a kind such as ``uni99``; ``None`` if a text names no kind."""
    found = _KIND.fullmatch(kind)
    return None if found is None else _width(found[1], int(found[2]))


def check_enough(cases: Cases, kind: str) -> None:
    """Whether candidates of a kind can be drawn for every case.

    Raises:
        DataError: If not, with the first user who has had too many of the items.
    """
    name, count = _parsed(kind)
    if count > cases.n_items:
        raise DataError(f"candidates {kind}: there are {cases.n_items} items only: draw fewer")
    if name == "retrieval":
        return
    known = set(_pool(cases, name).tolist())
    for row, own in enumerate(_items_of_users(cases)):
        n_left = len(known) - len(own & known)
        if n_left < count:
            raise DataError(
                f"user {cases.user_tokens[cases.users[row]]} has had {len(own)} of "
                f"{cases.n_items} items, which leaves {n_left}, fewer than {count} candidates: "
                "draw fewer, or rank all items"
            )


def make_candidates(
    folder: Path, cases: Cases, kind: str, *, seed: int, without_history: bool = False
) -> Candidates:
    """Draw and write candidates; a file of the same draw is kept.

    Args:
        folder: Where to; the name tells kind, seed, and whether the history is left out.
        cases: What is evaluated.
        kind: See :class:`CandidateInfo`.
        seed: Of the draws.
        without_history: For ``retrieval``: whether to leave out what the user has had.

    Raises:
        ConfigError: If the kind is unknown.
        DataError: If a user has had too many of the items.
    """
    name, count = _parsed(kind)
    without_history = without_history or name != "retrieval"
    unseen = "-unseen" if name == "retrieval" and without_history else ""
    path = folder / f"{kind}-seed{seed}{unseen}.npy"
    wanted: dict[str, Any] = {"kind": kind, "seed": seed, "cases": cases.digest}
    wanted["without_history"] = without_history
    if name != "uni":
        wanted["training"] = cases.training_digest
    try:
        found = load_candidates(path, cases)
        if vars(found.info).items() >= wanted.items():
            return found
    except DataError:
        pass  # missing, half written or of other cases: drawn anew
    check_enough(cases, kind)
    if name == "retrieval":
        draws = _retrieved(cases, count, without_history)
    else:
        draws = _sampled(cases, name, count, seed)
    digest, n_hits = _write_rows(path, cases, draws, _width(name, count))
    info = CandidateInfo(**wanted, digest=digest, recall=n_hits / len(cases))
    write_whole(_beside(path), (json.dumps(asdict(info), indent=2) + "\n").encode())
    return load_candidates(path, cases)


def _write_rows(
    path: Path, cases: Cases, draws: Iterator[list[int]], width: int
) -> tuple[str, int]:
    """The array's file, row by row; its digest, and how many targets are among their candidates."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape, n_hits = (len(cases), width), 0
    digest = hashlib.sha256(repr(shape).encode())
    # Written, not mapped: where a disk is full, a map kills the process without a word.
    with whole_file(path) as part, part.open("wb") as file:
        header = {"descr": "<i4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for target, items in zip(cases.targets.tolist(), draws, strict=True):
            row = np.zeros(width, "<i4")
            row[: len(items)] = items
            file.write(row.tobytes())
            digest.update(row.tobytes())
            n_hits += target in items
    return digest.hexdigest()[:16], n_hits


def load_candidates(path: Path, cases: Cases) -> Candidates:
    """Candidates that were written before.

    Raises:
        DataError: If the file is damaged, or of other cases.
    """
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
        info = CandidateInfo(**_read_info(path))
    except (OSError, EOFError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"candidates {path} cannot be read: {error}: draw them anew, --candidates uni99"
        ) from None
    if info.cases != cases.digest:
        raise DataError(
            f"candidates {path} are of other cases (data, split or users): draw them anew, "
            "--candidates uni99"
        )
    is_whole = isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.dtype == np.int32
    is_whole = is_whole and len(rows) == len(cases) and _digest(rows) == info.digest
    if not is_whole or rows.min() < 0 or rows.max() > cases.n_items:
        raise DataError(f"candidates {path} are damaged: remove the file to draw them anew")
    return Candidates(info, rows, np.arange(len(rows)))


def _beside(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_info(path: Path) -> dict[str, Any]:
    found = json.loads(_beside(path).read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{_beside(path).name} beside it does not describe candidates")
    return found


def _digest(rows: np.ndarray) -> str:
    found = hashlib.sha256(repr(rows.shape).encode())
    for begin in range(0, len(rows), 4096):
        found.update(np.ascontiguousarray(rows[begin : begin + 4096]).tobytes())
    return found.hexdigest()[:16]


def _parsed(kind: str) -> tuple[str, int]:
    found = _KIND.fullmatch(kind)
    if found is None:
        raise ConfigError(
            f"unknown candidates {kind!r}: uni99, pop99, retrieval100 (any number), full, or a "
            ".npy file that was written before"
        )
    return found[1], int(found[2])


def _width(name: str, count: int) -> int:
    """The target stands beside those that are drawn, not beside those that are retrieved."""
    return count + (name != "retrieval")


def _items_of_users(cases: Cases) -> Iterator[set[int]]:
    """Of each case, all items that the user ever had."""
    histories = cases.histories
    firsts = np.unique(histories.starts)
    ends = dict(zip(firsts.tolist(), [*firsts[1:].tolist(), len(histories.items)], strict=True))
    for begin in histories.starts[cases.positions].tolist():
        yield set(histories.items[begin : ends[begin]].tolist())


def _pool(cases: Cases, name: str) -> IntArray:
    """What is drawn from: each training interaction's item, or each item once."""
    if name == "pop":
        return cases.histories.items[cases.training]
    return np.arange(1, cases.n_items + 1)


def _sampled(cases: Cases, name: str, count: int, seed: int) -> Iterator[list[int]]:
    """Of each case the target, then distinct items that the user never had."""
    pool = _pool(cases, name)
    targets = cases.targets.tolist()
    for row, own in enumerate(_items_of_users(cases)):
        random = np.random.default_rng([seed, row])
        taken = {targets[row]: None}
        while len(taken) <= count:
            drawn = pool[random.integers(0, len(pool), 2 * count)].tolist()
            taken.update(dict.fromkeys(item for item in drawn if item not in own))
        yield list(taken)[: count + 1]


def _retrieved(cases: Cases, count: int, without_history: bool) -> Iterator[list[int]]:
    """What the retriever finds for each case, best first."""
    retriever = Retriever(cases.histories, cases.training, cases.n_items + 1)
    for position in cases.positions.tolist():
        items = cases.histories.items[cases.histories.starts[position] : position].tolist()
        yield retriever.retrieve(items, set(items if without_history else ()), count)
