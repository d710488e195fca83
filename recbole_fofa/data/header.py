"""The header line of RecBole's atomic files: ``name:type`` of each column.

RecBole splits it blindly, so a comma file or a missing type ends in "values to unpack". Here every
fault of the line is found and answered with the line or the setting to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

TYPES = ("token", "float", "token_seq", "float_seq")

_TYPED = re.compile(rf"[^:]+:({'|'.join(TYPES)})")
_SEPARATORS = ("\t", ",", ";", "|", " ")
_SHOWN = {"\t": "<TAB>", " ": "<SPACE>"}


@dataclass(frozen=True)
class Header:
    """Names and types of the columns of a file, in order."""

    names: tuple[str, ...]
    types: tuple[str, ...]

    def type_of(self, name: str) -> str:
        """Return the type of a column that is there."""
        return self.types[self.names.index(name)]


def parse_header(
    line: str, separator: str, where: str, expected: Sequence[str]
) -> tuple[Header | None, str, list[str]]:
    """Read a header line and find everything that RecBole would stumble over.

    Args:
        line: First line of the file, without its end.
        separator: The setting ``field_separator``.
        where: What messages call the file.
        expected: Header titles of the needed columns, to propose a missing header.

    Returns:
        The header or None, the separator that the file really uses, and the faults.
    """
    faults = []
    if not line.strip("\ufeff\t "):
        faults.append(
            f"{where}: is empty, or its first line is: write the header there, such as "
            f"{_joined(expected, separator)}"
        )
        return None, separator, faults
    if line.startswith("\ufeff"):
        line = line[1:]
        faults.append(
            f"{where}: starts with a byte order mark, which RecBole takes for part of the first "
            "column's name: set encoding: utf-8-sig"
        )
    actual = _separator_of(line, separator)
    if actual != separator:
        faults.append(
            f"{where}: columns are separated by {shown_separator(actual)!r}, but "
            f"field_separator is {separator!r}: set field_separator: {_as_yaml(actual)}"
        )
    titles = line.split(actual)
    if all(re.fullmatch(r"-?[\d.]+", title) for title in titles):
        spare = [f"column_{n + 1}:token" for n in range(len(titles))]
        proposal = [*expected, *spare[len(expected) :]][: len(titles)]
        faults.append(
            f"{where}: line 1 is data, not a header: insert before it the line "
            f"{_joined(proposal, actual)}"
        )
        return None, actual, faults
    faults += _title_faults(titles, actual, where, expected)
    parts = [title.partition(":") for title in titles]
    header = Header(tuple(part[0] for part in parts), tuple(part[2] for part in parts))
    return header, actual, faults


def shown_separator(separator: str) -> str:
    """Spell a separator so that it can be seen in a message."""
    return _SHOWN.get(separator, separator)


def _separator_of(line: str, configured: str) -> str:
    """Find the separator that makes sense of a header line; the configured one if in doubt."""

    def pieces(separator: str) -> list[str]:
        return line.split(separator) if separator else [line]

    for separator in (configured, *_SEPARATORS):
        if len(pieces(separator)) > 1 and all(map(_TYPED.fullmatch, pieces(separator))):
            return separator
    if len(pieces(configured)) > 1 or _TYPED.fullmatch(line):
        return configured or "\t"
    best = max(_SEPARATORS, key=lambda separator: len(pieces(separator)))
    return best if len(pieces(best)) > 1 else configured or "\t"


def _title_faults(
    titles: Sequence[str], separator: str, where: str, expected: Sequence[str]
) -> list[str]:
    faults = []
    wrong = [title for title in titles if not _TYPED.fullmatch(title)]
    if wrong:
        faults.append(
            f"{where}: header without a valid type in {quoted_list(wrong)} "
            f"(name:type, with a type out of {', '.join(TYPES)}): write the first line as "
            f"{_joined([_typed(title, expected) for title in titles], separator)}"
        )
    names = [title.partition(":")[0] for title in titles]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        faults.append(
            f"{where}: header names {quoted_list(twice)} more than once: rename the later column"
        )
    return faults


def _typed(title: str, expected: Sequence[str]) -> str:
    """Return a valid title for a column: the given type if it is one, else the likeliest."""
    if _TYPED.fullmatch(title):
        return title
    name, _, kind = (part.strip(" \"'") for part in title.partition(":"))
    for known in (f"{name}:{kind.lower()}", *expected):
        if known.partition(":")[0] == name and _TYPED.fullmatch(known):
            return known
    is_number = re.search(r"time|rating|score|price|label", name.lower())
    return f"{name}:{'float' if is_number else 'token'}"


def _joined(titles: Sequence[str], separator: str) -> str:
    return _cut(shown_separator(separator).join(titles), 400)


def quoted_list(names: Sequence[str]) -> str:
    """Names in quotes for a message, cut if they are many or long."""
    shown = ", ".join(_cut(repr(name), 60) for name in names[:8])
    return f"{shown}, ..." if len(names) > 8 else shown


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def _as_yaml(separator: str) -> str:
    return '"\\t"' if separator == "\t" else f"'{separator}'"
