"""Unrounded values of every case, written as they come and read for paired comparisons."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from recbole_fofa.device.payload import structure_text
from recbole_fofa.errors import DataError
from recbole_fofa.whole_file import whole_file

if TYPE_CHECKING:  # results are compared without torch and RecBole
    from recbole_fofa.evaluator.cases import Cases
    from recbole_fofa.evaluator.quality import Values

FILE = "per_user.csv.gz"
_FIRST = ("row", "user", "target", "history_length", "rank", "structure")


class PerUserWriter:
    """Writes one line for each row of the report and each case.

    Columns: ``row``, the tokens ``user`` and ``target``, ``history_length``, ``rank`` (from 1; 0
    for a target that is not ranked), ``structure`` (such as ``10``; empty for a model without),
    then the metrics.
    """

    def __init__(self, lines: TextIO, metrics: Sequence[str]) -> None:
        self._lines = csv.writer(lines, lineterminator="\n")
        self._metrics = list(metrics)
        self._lines.writerow([*_FIRST, *self._metrics])

    def __call__(
        self,
        label: str,
        cases: Cases,
        chosen: slice,
        structure: np.ndarray,
        ranks: np.ndarray,
        values: Values,
    ) -> None:
        """Write some cases of a row."""
        users = [cases.user_tokens[user] for user in cases.users[chosen].tolist()]
        targets = [cases.item_tokens[item] for item in cases.targets[chosen].tolist()]
        lengths = cases.history_lengths[chosen].tolist()
        codes = map(structure_text, structure.tolist())
        numbers = [map(repr, values[name].tolist()) for name in self._metrics]
        columns = (users, targets, lengths, ranks.tolist(), codes, *numbers)
        self._lines.writerows((label, *line) for line in zip(*columns, strict=True))


@contextmanager
def per_user_writer(path: Path, metrics: Sequence[str]) -> Iterator[PerUserWriter]:
    """A writer whose file appears under its name once it is whole."""
    # No time in the header, so that equal values give equal files.
    with (
        whole_file(path) as part,
        part.open("wb") as file,
        gzip.GzipFile("", "wb", mtime=0, fileobj=file) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as lines,
    ):
        yield PerUserWriter(lines, metrics)


def digest_of(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        found = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                found.update(piece)
        return found.hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def per_user_values(path: Path, label: str, metric: str) -> dict[str, float]:
    """Each user's mean of a metric in a row; users without a case are not in it.

    Raises:
        DataError: If the file cannot be read, or has no such row or metric.
    """
    sums: dict[str, tuple[float, int]] = {}
    labels: dict[str, None] = {}
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            names = list(reader.fieldnames or ())[len(_FIRST) :]
            if metric not in names:
                raise DataError(f"{path} has no metric {metric!r}: it has {', '.join(names)}")
            for line in reader:
                labels[line["row"]] = None
                if line["row"] == label:
                    total, n = sums.get(line["user"], (0.0, 0))
                    sums[line["user"]] = (total + float(line[metric]), n + 1)
    except DataError:
        raise
    except (OSError, EOFError, zlib.error, csv.Error, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not sums:
        raise DataError(f"{path} has no row {label!r}: it has {', '.join(labels)}")
    return {user: total / n for user, (total, n) in sums.items()}
