"""Counts over all interactions of a data set, gathered block by block as small numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from recbole_fofa.data.atomic_file import Block, Finding

_EXACT_LIMIT = 2.0**53
"""Beyond it a float64 no longer tells neighbouring integers apart."""


@dataclass(frozen=True)
class FileReport:
    """What the files of a data set hold, as counted in them (padding is no item).

    Args:
        name: The data set's name.
        n_rows: Interactions that have both a user and an item.
        n_users: Users with an interaction.
        n_items: Items with an interaction, or in the history of a pre-split row.
        n_exact_duplicates: Rows that repeat user, item and timestamp of an earlier row.
        n_time_ties: Rows that share user and timestamp with another row.
        n_float32_ties: Further rows that would do so once timestamps are cast to float32.
        n_blank_ids: Rows without a user or an item; RecBole drops them.
        n_blank_times: Rows without a timestamp.
        median_length: Interactions that half of the users do not exceed.
        warnings: Other things to tell the user, one line each.
    """

    name: str
    n_rows: int
    n_users: int
    n_items: int
    n_exact_duplicates: int
    n_time_ties: int
    n_float32_ties: int
    n_blank_ids: int
    n_blank_times: int
    median_length: int
    warnings: tuple[str, ...] = ()


class _Codes:
    """Numbers for texts, in order of appearance; -1 for blanks."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def encode(self, texts: pd.Series) -> npt.NDArray[np.int64]:
        codes, distinct = pd.factorize(texts)
        numbers = [self.numbers.setdefault(text, len(self.numbers)) for text in distinct]
        lookup = np.array([*numbers, -1], np.int64)
        return np.asarray(lookup[codes])


class Tally:
    """Gathers the interactions of one or several files.

    Args:
        user: Name of the user column.
        item: Name of the item column.
        time: Name of the time column; None if there is none.
        item_list: Name of the history column of pre-split files; None if there is none.
        list_separator: Between the items of a history.
    """

    def __init__(
        self,
        user: str,
        item: str,
        time: str | None,
        item_list: str | None = None,
        list_separator: str = " ",
    ) -> None:
        self.blank_ids = Finding()
        self._names = (user, item, time, item_list)
        self._list_separator = list_separator
        self._users, self._items = _Codes(), _Codes()
        self._listed: set[str] = set()
        self._blocks: list[pd.DataFrame] = []

    def add(self, block: Block) -> None:
        """Count the rows of a block, which has at least users and items."""
        user, item, time, item_list = self._names
        frame = block.frame
        codes = pd.DataFrame(
            {"user": self._users.encode(frame[user]), "item": self._items.encode(frame[item])}
        )
        if time in frame:
            codes["time"] = frame[time].to_numpy()
        if item_list in frame:
            lists = frame[item_list].fillna("").astype(object)
            codes["list"] = pd.util.hash_array(lists.to_numpy())
            for text in lists:
                self._listed.update(text.split(self._list_separator))
        whole = ((codes["user"] >= 0) & (codes["item"] >= 0)).to_numpy()
        self.blank_ids.add(block.lines[~whole])
        self._blocks.append(codes[whole])

    @property
    def has_rows(self) -> bool:
        """Whether any row had both a user and an item."""
        return any(len(block) for block in self._blocks)

    def report(self, name: str, warnings: tuple[str, ...] = ()) -> FileReport:
        """Sum up."""
        rows = pd.concat(self._blocks, ignore_index=True)
        times = rows["time"] if "time" in rows else pd.Series(np.nan, rows.index)
        ties = _n_sharing(rows["user"], times)
        with np.errstate(over="ignore"):
            rounded = _n_sharing(rows["user"], times.astype(np.float32))
        if (times.abs() > _EXACT_LIMIT).any():
            warnings += (
                "timestamps above 2^53 lose their last digits in RecBole's floats: "
                "write them in seconds or milliseconds",
            )
        return FileReport(
            name=name,
            n_rows=len(rows),
            n_users=rows["user"].nunique(),
            n_items=self._n_items(rows),
            n_exact_duplicates=int(rows.duplicated().sum()),
            n_time_ties=ties,
            n_float32_ties=rounded - ties,
            n_blank_ids=self.blank_ids.count,
            n_blank_times=int(times.isna().sum()) if "time" in rows else 0,
            median_length=int(rows["user"].value_counts().median()),
            warnings=warnings,
        )

    def _n_items(self, rows: pd.DataFrame) -> int:
        items = set(rows["item"].unique().tolist())
        listed = (self._items.numbers.get(token) for token in self._listed - {""})
        return len(items) + sum(number not in items for number in listed)


def _n_sharing(users: pd.Series, times: pd.Series) -> int:
    """Number of rows that share user and time with another; blank times are shared by none."""
    pairs = pd.DataFrame({"user": users, "time": times})[times.notna()]
    return int(pairs.duplicated(keep=False).sum())


def report_lines(report: FileReport) -> list[str]:
    """Say what the files hold; lines that start with ``warning:`` need attention.

    Args:
        report: What was counted.

    Returns:
        One line for each thing worth knowing, the sizes first.
    """
    lines = [
        f"{report.name}.inter: {_count(report.n_rows, 'interaction')} of "
        f"{_count(report.n_users, 'user')} over {_count(report.n_items, 'item')}"
    ]
    if report.n_exact_duplicates:
        lines.append(
            f"warning: {_count(report.n_exact_duplicates, 'exact duplicate row')}: a model that "
            "repeats the last item scores well on them; remove them, or set mask_history: true"
        )
    if report.n_blank_ids:
        lines.append(
            f"warning: {_count(report.n_blank_ids, 'row')} without user or item id (blank, NA, "
            "null, ...), which RecBole drops"
        )
    if report.n_blank_times:
        lines.append(
            f"warning: {_count(report.n_blank_times, 'row')} without a timestamp, filled as "
            "missing_time says, or by RecBole with the mean where no order is asked for"
        )
    if report.n_time_ties:
        lines.append(
            f"{_count(report.n_time_ties, 'interaction')} share user and timestamp with another; "
            "file order decides"
        )
    if report.n_float32_ties:
        lines.append(
            f"{_count(report.n_float32_ties, 'interaction')} more would tie if timestamps were "
            "rounded to float32, as RecBole rounds them; they are ordered in float64"
        )
    return lines + [f"warning: {warning}" for warning in report.warnings]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
