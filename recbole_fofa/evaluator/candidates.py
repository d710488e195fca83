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
from recbole_fofa.whole_file import write_whole

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
    """

    kind: str
    seed: int
    without_history: bool
    cases: str
    digest: str
    recall: float


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
    return None if found is None else int(found[2]) + (found[1] != "retrieval")


def make_candidates(
    path: Path, cases: Cases, kind: str, *, seed: int, without_history: bool = False
) -> Candidates:
    """Draw and write candidates; a file of the same name that is of the same draw is kept.

    Args:
        path: Of the array, ``.npy``.
        cases: What is evaluated.
        kind: See :class:`CandidateInfo`.
        seed: Of the draws.
        without_history: For ``retrieval``: whether to leave out what the user has had.

    Raises:
        ConfigError: If the kind is unknown.
        DataError: If a user has had too many of the items.
    """
    found = _KIND.fullmatch(kind)
    if found is None:
        raise ConfigError(
            f"unknown candidates {kind!r}: uni99, pop99, retrieval100 (any number), full, or a "
            ".npy file that was written before"
        )
    name, count = found[1], int(found[2])
    width = width_of(kind)
    wanted = {"kind": kind, "seed": seed, "cases": cases.digest()}
    wanted["without_history"] = without_history or name != "retrieval"
    if path.exists() and _read_info(path).items() >= wanted.items():
        return load_candidates(path, cases)
    if name == "retrieval":
        draws = _retrieved(cases, count, without_history)
    else:
        draws = _sampled(cases, count, seed, by_popularity=name == "pop")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    rows = np.lib.format.open_memmap(part, "w+", np.int32, (len(cases), width))
    n_hits = 0
    for row, (target, items) in enumerate(zip(cases.targets.tolist(), draws, strict=True)):
        rows[row, : len(items)] = items
        n_hits += target in items
    rows.flush()
    info = CandidateInfo(**wanted, digest=_digest(rows), recall=n_hits / len(cases))
    del rows
    part.replace(path)
    write_whole(_beside(path), (json.dumps(asdict(info), indent=2) + "\n").encode())
    return load_candidates(path, cases)


def load_candidates(path: Path, cases: Cases) -> Candidates:
    """Candidates that were written before.

    Raises:
        DataError: If the file is damaged, or of other cases.
    """
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
        info = CandidateInfo(**_read_info(path))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"candidates {path} cannot be read: {error}") from None
    if info.cases != cases.digest():
        raise DataError(
            f"candidates {path} are of other cases (data, split or users): draw them anew, "
            "--candidates uni99"
        )
    right_shape = rows.ndim == 2 and rows.dtype == np.int32 and len(rows) == len(cases)
    if not right_shape or _digest(rows) != info.digest:
        raise DataError(f"candidates {path} are damaged: remove the file to draw them anew")
    return Candidates(info, rows, np.arange(len(rows)))


def _beside(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_info(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_beside(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"candidates {path}: {_beside(path).name} beside it: {error}") from None
    return found if isinstance(found, dict) else {}


def _digest(rows: np.ndarray) -> str:
    found = hashlib.sha256(repr(rows.shape).encode())
    for begin in range(0, len(rows), 4096):
        found.update(np.ascontiguousarray(rows[begin : begin + 4096]).tobytes())
    return found.hexdigest()[:16]


def _sampled(cases: Cases, count: int, seed: int, *, by_popularity: bool) -> Iterator[list[int]]:
    """Of each case the target, then distinct items that the user never had."""
    histories = cases.histories
    pool = histories.items[cases.training] if by_popularity else np.arange(1, cases.n_items + 1)
    known = set(pool.tolist())
    firsts = np.unique(histories.starts)
    ends = dict(zip(firsts.tolist(), [*firsts[1:].tolist(), len(histories.items)], strict=True))
    for row, position in enumerate(cases.positions.tolist()):
        begin = int(histories.starts[position])
        own = set(histories.items[begin : ends[begin]].tolist())
        if len(known - own) < count:
            raise DataError(
                f"user {cases.user_tokens[cases.users[row]]} has had {len(own)} of "
                f"{cases.n_items} items, which leaves {len(known - own)}, fewer than {count} "
                "candidates: draw fewer, or rank all items"
            )
        random = np.random.default_rng([seed, row])
        taken = {int(histories.items[position]): None}
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
