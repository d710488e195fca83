"""Reads the rows of RecBole's atomic files in blocks, with line numbers.

RecBole's own reader cuts rows that are too long, pads rows that are too short and, if the first
row is too long, moves every value one column to the right, all in silence. So the form of each
line is checked here on the bytes, before pandas sees it.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from recbole_fofa.data.header import Header

READ_ERRORS = (OSError, EOFError, zlib.error, UnicodeError, LookupError)

# Stands for separators of several bytes, which neither the byte count nor the C parser knows.
_UNIT_SEPARATOR = "\x1f"
_BLOCK_CHARS = 16 << 20

Lines = npt.NDArray[np.int64]


@dataclass
class Finding:
    """How often something was found, and where first."""

    count: int = 0
    line: int = 0
    value: str = ""

    def add(self, lines: Lines, values: Sequence[object] | None = None) -> None:
        """Count lines (in ascending order); remember the first with its value."""
        if len(lines) and not self.count:
            self.line = int(lines[0])
            self.value = "" if values is None else str(values[0])[:40]
        self.count += len(lines)


@dataclass
class NumberFindings:
    """What is wrong in a column of numbers."""

    wrong: Finding = field(default_factory=Finding)
    blank: Finding = field(default_factory=Finding)
    infinite: Finding = field(default_factory=Finding)


@dataclass(frozen=True)
class Block:
    """Some rows of a file: the chosen columns, and the 1-based line that each row is on."""

    frame: pd.DataFrame
    lines: Lines


def open_text(path: Path, encoding: str) -> TextIO:
    """Open a file, compressed or not; all kinds of line ends become newlines."""
    if path.name.endswith(".gz"):
        return cast(TextIO, gzip.open(path, "rt", encoding=encoding))
    return open(path, encoding=encoding)


def describe_read_error(path: Path, encoding: str, error: BaseException) -> str:
    """Say in one line why a file could not be read, and what to do."""
    if isinstance(error, UnicodeError):
        return (
            f"{path}: not text in encoding {encoding} ({error}): save the file as UTF-8, "
            "or set encoding: to the one it is in, such as encoding: latin-1"
        )
    if isinstance(error, LookupError):
        return f"{path}: unknown encoding {encoding!r}: set encoding: utf-8"
    if isinstance(error, (gzip.BadGzipFile, EOFError, zlib.error)):
        return f"{path}: cannot be decompressed ({error}): compress the file anew with gzip"
    return f"{path}: cannot be read ({error})"


class Rows:
    """The rows of one file, with what is wrong with their form.

    Args:
        handle: The open file, its header line read.
        header: The columns.
        separator: Between the columns.
        texts: Names of the columns to read as text.
        numbers: Names of the columns to read as numbers.
    """

    def __init__(
        self,
        handle: TextIO,
        header: Header,
        separator: str,
        texts: Iterable[str],
        numbers: Iterable[str],
    ) -> None:
        self.wrong_fields = Finding()
        self.open_quotes = Finding()
        self.zero_bytes = Finding()
        self.not_parsed = Finding()
        self.numbers = {name: NumberFindings() for name in numbers}
        self.n_rows = 0
        self._handle = handle
        self.n_fields = len(header.names)
        self.separator = separator
        self._separator = separator if len(separator.encode()) == 1 else _UNIT_SEPARATOR
        self._floats = sorted(header.names.index(name) for name in self.numbers)
        positions = {header.names.index(name) for name in texts}.union(self._floats)
        self._columns = {position: header.names[position] for position in sorted(positions)}
        self.columns = frozenset(self._columns.values())

    def blocks(self) -> Iterator[Block]:
        """Read on; rows of a wrong form are counted in the findings and left out.

        Yields:
            The other rows, in order.
        """
        n_lines = 1
        while text := self._handle.read(_BLOCK_CHARS):
            text += self._handle.readline()
            if self._separator != self.separator:
                text = text.replace(self.separator, self._separator)
            data = text.encode()
            if not data.endswith(b"\n"):
                data += b"\n"
            kept, n_seen = self._well_formed(data, n_lines)
            if len(kept):
                yield from self._parsed(data, kept, n_lines, n_seen)
            n_lines += n_seen

    def _well_formed(self, data: bytes, n_before: int) -> tuple[Lines, int]:
        """Positions of the good lines in a block, and its number of lines."""
        raw = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(raw == ord("\n"))
        starts = np.concatenate([[0], ends[:-1] + 1])
        separators = np.flatnonzero(raw == ord(self._separator))
        n_fields = 1 + np.searchsorted(separators, ends) - np.searchsorted(separators, starts)
        # Empty lines are skipped by RecBole too.
        blank = ends == starts
        for line in np.flatnonzero((n_fields == 1) & (raw[starts] == ord(" "))):
            blank[line] = not data[starts[line] : ends[line]].strip(b" \t")
        n_fields[blank] = self.n_fields
        if b'"' in data:
            quotes = np.flatnonzero(raw == ord('"'))
            for line in np.unique(np.searchsorted(starts, quotes, side="right") - 1):
                content = data[starts[line] : ends[line]].decode()
                n_fields[line] = _count_quoted(content, self._separator)
        numbers = n_before + 1 + np.arange(len(ends))
        self.n_rows += int((~blank).sum())
        wrong = (n_fields != self.n_fields) & (n_fields > 0)
        self.wrong_fields.add(numbers[wrong], n_fields[wrong])
        self.open_quotes.add(numbers[n_fields == 0])
        # Pandas' two parsers differ on them: the end of the text to one, a character to the other.
        zero = np.zeros(len(ends), bool)
        zero[np.searchsorted(ends, np.flatnonzero(raw == 0))] = True
        self.zero_bytes.add(numbers[zero])
        return np.flatnonzero(~blank & ~zero & (n_fields == self.n_fields)), len(ends)

    def _parsed(self, data: bytes, kept: Lines, n_before: int, n_seen: int) -> Iterator[Block]:
        numbers = n_before + 1 + kept
        if len(kept) < n_seen:
            lines = data.split(b"\n")
            data = b"\n".join([lines[line] for line in kept.tolist()])
        try:
            frame = self._frame(data, numbers)
        except (ValueError, OverflowError, csv.Error) as error:
            self.not_parsed.add(numbers, [error])
            return
        if len(frame) != len(numbers):
            self.not_parsed.add(numbers, ["quotation marks across lines"])
            return
        yield Block(frame, numbers)

    def _frame(self, data: bytes, lines: Lines) -> pd.DataFrame:
        try:
            frame = self._read(data, np.float64)
        except ValueError:  # some text is in a column of numbers: find it
            frame = self._read(data, str)
            for position in self._floats:
                texts = frame[position]
                frame[position] = pd.to_numeric(texts, errors="coerce").astype(np.float64)
                wrong = (frame[position].isna() & texts.notna()).to_numpy()
                findings = self.numbers[self._columns[position]]
                findings.wrong.add(lines[wrong], texts[wrong].tolist())
                findings.blank.add(lines[texts.isna().to_numpy()])
        else:
            for position in self._floats:
                blank = frame[position].isna().to_numpy()
                self.numbers[self._columns[position]].blank.add(lines[blank])
        for position in self._floats:
            infinite = np.isinf(frame[position].to_numpy())
            self.numbers[self._columns[position]].infinite.add(lines[infinite])
        return frame.rename(columns=self._columns)

    def _read(self, data: bytes, number: type) -> pd.DataFrame:
        return pd.read_csv(
            io.BytesIO(data),
            sep=self._separator,
            header=None,
            names=range(self.n_fields),
            usecols=list(self._columns),
            index_col=False,
            dtype={p: number if p in self._floats else str for p in self._columns},
            skip_blank_lines=False,
            engine="c",
        )


def _count_quoted(line: str, separator: str) -> int:
    """Count the fields of a line with quotation marks; 0 if one is left open."""
    reader = csv.reader([f"{line}\n", ""], delimiter=separator)
    try:
        fields = next(reader)
    except csv.Error:
        return 0
    return len(fields) if reader.line_num == 1 else 0
