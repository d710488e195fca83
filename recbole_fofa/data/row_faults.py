"""Messages on what is wrong in the rows of an interaction file."""

from __future__ import annotations

from pathlib import Path

from recbole_fofa.data.atomic_file import Finding, Rows
from recbole_fofa.data.header import shown_separator


def form_faults(path: Path, rows: Rows) -> list[str]:
    """Rows that do not fit the header."""
    faults = []
    wrong, quotes = rows.wrong_fields, rows.open_quotes
    zeros, failed = rows.zero_bytes, rows.not_parsed
    if wrong.count:
        faults.append(
            f"{path}: {_rows(wrong)} with a wrong number of fields, first line {wrong.line}: "
            f"{wrong.value} instead of {rows.n_fields} separated by "
            f"{shown_separator(rows.separator)!r}: correct or remove the line"
        )
    if quotes.count:
        faults.append(
            f"{path}: {_rows(quotes)} with a quotation mark that opens a field and is not closed, "
            f"first line {quotes.line}: RecBole reads on across lines; remove the mark"
        )
    if zeros.count:
        faults.append(
            f"{path}: {_rows(zeros)} with a zero byte, first line {zeros.line}: save the file as "
            "UTF-8 text, or set encoding: utf-16 if it is that"
        )
    if failed.count:
        faults.append(
            f"{path}: {_rows(failed)} from line {failed.line} on cannot be parsed ({failed.value})"
        )
    return faults


def number_faults(path: Path, rows: Rows, time: str | None, missing_time: object) -> list[str]:
    """Values of number columns that are no numbers, and timestamps that are blank.

    Args:
        path: The file.
        rows: Its rows, read to the end.
        time: The time column, if the run needs one.
        missing_time: The setting of that name.

    Returns:
        One message for each kind of fault in each column.
    """
    faults = []
    for name, found in rows.numbers.items():
        hint = "correct the line" if name != time else "write seconds since 1970, such as 881250949"
        if found.wrong.count:
            faults.append(
                f"{path}: column {name!r} holds {_values(found.wrong)} that are not numbers, first "
                f"line {found.wrong.line}: {found.wrong.value!r}: {hint}"
            )
        if found.infinite.count:
            faults.append(
                f"{path}: column {name!r} holds {_values(found.infinite)} that are infinite, first "
                f"line {found.infinite.line}: {hint}"
            )
        if name == time and found.blank.count and found.blank.count == rows.n_rows:
            faults.append(
                f"{path}: column {name!r} is blank in all rows: there is no order in time"
            )
        elif name == time and found.blank.count and missing_time != "previous":
            faults.append(
                f"{path}: column {name!r} is blank in {_rows(found.blank)}, first line "
                f"{found.blank.line}: fill them in, or set missing_time: previous to take the "
                "timestamp of the user's row before"
            )
    return faults


def _rows(finding: Finding) -> str:
    return "1 row" if finding.count == 1 else f"{finding.count} rows"


def _values(finding: Finding) -> str:
    return "1 value" if finding.count == 1 else f"{finding.count} values"
