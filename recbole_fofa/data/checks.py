"""Everything that can be told about the data files before RecBole loads them.

All faults are found together, and each message names file, column and line, and the setting or
header line that puts it right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from recbole_fofa.data.atomic_file import (
    READ_ERRORS,
    Rows,
    describe_read_error,
    open_text,
)
from recbole_fofa.data.columns import (
    Loading,
    Role,
    Settings,
    is_sequential,
    loading_of,
    needed_roles,
    role_faults,
)
from recbole_fofa.data.header import Header, parse_header
from recbole_fofa.data.location import DatasetFiles
from recbole_fofa.data.row_faults import form_faults, number_faults
from recbole_fofa.data.tally import FileReport, Tally, report_lines

__all__ = ["FileReport", "inspect_files", "report_lines"]

_DEFAULT_ENCODING = "utf-8"
_FILTERS = ("user_inter_num_interval", "item_inter_num_interval", "val_interval", "rm_dup_inter")
_ID_KEYS = ("USER_ID_FIELD", "ITEM_ID_FIELD")


def inspect_files(files: DatasetFiles, settings: Settings) -> tuple[list[str], FileReport | None]:
    """Look for faults in a data set's files.

    Args:
        files: Where the files are.
        settings: RecBole's final settings.

    Returns:
        All faults, and the counts; no counts if some rows could not be read or the data set is
        still to be downloaded.
    """
    if files.known:
        return [], None
    inspection = _Inspection(files, settings)
    inspection.inspect_interactions()
    for source in ("user", "item"):
        inspection.inspect_features(source)
    for suffix in _strings(settings.get("additional_feat_suffix")):
        inspection.inspect_features(suffix, additional=True)
    report = inspection.report()
    if report is not None:
        inspection.faults += _topk_faults(report, files, settings)
        report = replace(report, warnings=(*report.warnings, *_length_warnings(report, settings)))
    return list(dict.fromkeys(inspection.faults)), report


class _Inspection:
    """One pass over the files, with the faults found so far."""

    def __init__(self, files: DatasetFiles, settings: Settings) -> None:
        self.faults: list[str] = []
        self._files = files
        self._settings = settings
        self._encoding = str(settings.get("encoding") or _DEFAULT_ENCODING)
        self._separator = str(settings.get("field_separator") or "\t")
        self._roles = needed_roles(settings)
        self._tally: Tally | None = None
        self._incomplete = False
        self._warnings: list[str] = []

    def report(self) -> FileReport | None:
        """Counts of all interaction files, if all of them could be read to the end."""
        if self._incomplete or self._tally is None or not self._tally.has_rows:
            return None
        return self._tally.report(self._files.name, tuple(self._warnings))

    def inspect_interactions(self) -> None:
        """Header and rows of ``.inter``, or of each pre-split part."""
        unset = [key for key in _ID_KEYS if not self._settings.get(key)]
        # Without either, RecBole can still train context models on labels.
        if len(unset) == 1 or (unset and is_sequential(self._settings)):
            self.faults += [f"{key} is not set: name the column of ids" for key in unset]
        self._check_alias()
        paths = self._interaction_paths()
        loading, faults = loading_of(self._settings, "inter")
        self.faults += faults
        for path in paths:
            self._inspect_file(path, loading, self._roles, self._inspect_rows)

    def inspect_features(self, source: str, additional: bool = False) -> None:
        """Header of a feature file, if it is to be loaded."""
        loading, faults = loading_of(self._settings, source)
        self.faults += faults
        path = self._files.atomic(source)
        missing = f"{self._files.folder / f'{self._files.name}.{source}'} does not exist"
        if path is None and additional:
            self.faults.append(f"{missing}, but additional_feat_suffix lists {source}")
        elif path is None and loading.wanted:
            self._warnings.append(f"{missing}, so no {source} feature of load_col is loaded")
        elif path is not None and loading.wanted != ():
            key = {"user": "USER_ID_FIELD", "item": "ITEM_ID_FIELD"}.get(source)
            roles = [role for role in self._roles if role.key == key]
            self._inspect_file(path, loading, roles, self._inspect_feature_rows)

    def _check_alias(self) -> None:
        """Without the alias RecBole numbers histories and targets independently, in silence."""
        alias = _strings(self._settings.get("alias_of_item_id"))
        for name in (role.name for role in self._roles if not role.key):
            if name not in alias:
                self.faults.append(
                    f"pre-split files need histories and items to be numbered alike: "
                    f"set alias_of_item_id: [{name}]"
                )

    def _interaction_paths(self) -> list[Path]:
        parts = _strings(self._settings.get("benchmark_filename"))
        if not parts:
            if self._files.inter is None:
                self.faults.append(f"{self._files.folder} has no file {self._files.name}.inter")
            return [self._files.inter] if self._files.inter is not None else []
        found = {part: self._files.atomic(f"{part}.inter") for part in parts}
        for part in (part for part, path in found.items() if path is None):
            path = self._files.folder / f"{self._files.name}.{part}.inter"
            self.faults.append(f"{path} does not exist, but benchmark_filename lists {part}")
        return [path for path in found.values() if path is not None]

    def _inspect_file(
        self,
        path: Path,
        loading: Loading,
        roles: list[Role],
        inspect_rows: Callable[[Path, Rows], None],
    ) -> None:
        try:
            with open_text(path, self._encoding) as handle:
                line = handle.readline().removesuffix("\n")
                titles = [role.title for role in roles]
                header, separator, faults = parse_header(line, self._separator, str(path), titles)
                self.faults += faults
                if header is None:
                    return
                self._check_columns(path, header, loading, roles)
                texts, numbers = self._columns_to_read(header, loading, roles)
                if not texts and not numbers:  # the form of the rows is looked at all the same
                    texts = list(header.names[:1])
                inspect_rows(path, Rows(handle, header, separator, texts, numbers))
        except READ_ERRORS as error:
            self._incomplete = True
            self.faults.append(describe_read_error(path, self._encoding, error))

    def _check_columns(
        self, path: Path, header: Header, loading: Loading, roles: list[Role]
    ) -> None:
        found = (role_faults(role, header, loading, str(path), roles) for role in roles)
        self.faults += filter(None, found)
        known = {*header.names, *(role.name for role in roles)}
        for name in (name for name in loading.wanted or () if name not in known):
            self._warnings.append(f"{path} has no column {name!r}, which load_col lists")

    def _columns_to_read(
        self, header: Header, loading: Loading, wanted: list[Role]
    ) -> tuple[list[str], list[str]]:
        """Columns to read as text, and columns to read as numbers."""
        roles = [role for role in wanted if role.name in header.names]
        texts = [role.name for role in roles if role.type != "float"]
        times = [role.name for role in roles if role.type == "float"]
        floats = [n for n in header.names if header.type_of(n) == "float" and loading.has(n)]
        return texts, [name for name in dict.fromkeys([*times, *floats]) if name not in texts]

    def _inspect_feature_rows(self, path: Path, rows: Rows) -> None:
        for _ in rows.blocks():
            pass
        if not rows.n_rows:
            self.faults.append(f"{path}: has a header but no rows: add them, or load no column")
        self.faults += form_faults(path, rows) + number_faults(path, rows, None, None)

    def _inspect_rows(self, path: Path, rows: Rows) -> None:
        tally = self._tally_of(rows)
        for block in rows.blocks():
            if tally is not None:
                tally.add(block)
        if not rows.n_rows:
            self.faults.append(f"{path}: has a header but no rows: add the interactions")
        elif tally is not None and not tally.has_rows:
            self.faults.append(f"{path}: no row has both a user and an item id")
        unread = form_faults(path, rows)
        self._incomplete |= bool(unread)
        self.faults += unread
        time = next((role.name for role in self._roles if role.key == "TIME_FIELD"), None)
        self.faults += number_faults(path, rows, time, self._settings.get("missing_time"))

    def _tally_of(self, rows: Rows) -> Tally | None:
        """The tally of all files; None if this one lacks a column of ids."""
        user, item = (str(self._settings.get(key)) for key in _ID_KEYS)
        if user not in rows.columns or item not in rows.columns:
            return None
        if self._tally is None:
            item_list = next((role.name for role in self._roles if not role.key), None)
            separator = str(self._settings.get("seq_separator") or " ")
            time = str(self._settings.get("TIME_FIELD"))
            self._tally = Tally(user, item, time, item_list, separator)
        return self._tally


def _topk_faults(report: FileReport, files: DatasetFiles, settings: Settings) -> list[str]:
    value_metrics = getattr(settings.get("eval_type"), "name", None) == "VALUE"
    # Items of a feature file are ranked too, even if nobody met them.
    item_file = files.atomic("item") is not None and loading_of(settings, "item")[0].wanted != ()
    topk = settings.get("topk")
    cutoffs = [topk] if isinstance(topk, int) else topk if isinstance(topk, (list, tuple)) else []
    largest = max((k for k in cutoffs if isinstance(k, int)), default=0)
    if value_metrics or item_file or largest <= report.n_items:
        return []
    kept = [k for k in cutoffs if isinstance(k, int) and k <= report.n_items] or [report.n_items]
    return [
        f"topk: {largest} is more than the {report.n_items} items of {files.name}.inter: "
        f"the largest k allowed is {report.n_items}; set topk: {kept}"
    ]


def _length_warnings(report: FileReport, settings: Settings) -> Iterator[str]:
    """Windows that are longer than histories begin at their first item."""
    lengths = settings.get("session_length"), settings.get("MAX_ITEM_LIST_LENGTH")
    is_cut = settings.get("train_regime") == "session" and not settings.get("session_gap_seconds")
    if not is_cut or not all(isinstance(length, int) for length in lengths):
        return
    if any(settings.get(key) for key in _FILTERS):  # other users will be left
        return
    longest = min(lengths)
    if longest > report.median_length:
        start = "" if settings.get("preset") else "begin with preset: short_histories, or "
        yield (
            f"half of the users have {report.median_length} interactions or fewer, and a session "
            f"window has up to {longest} (session_length): adaptation, which reads what lies "
            f"before it, has little to learn from; {start}set session_length to less"
        )


def _strings(value: object) -> list[str]:
    """A setting that is a name, a list of names or nothing."""
    if isinstance(value, str):
        return [value]
    return [str(part) for part in value] if isinstance(value, (list, tuple)) else []
