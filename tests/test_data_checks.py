"""Faults and counts of data files, found before RecBole loads anything."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import data_files
import numpy as np
import pandas as pd
import pytest
from data_files import HEADER, interactions, write_file, write_inter, write_tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_fofa.data import atomic_file
from recbole_fofa.data.checks import FileReport, inspect_files, report_lines
from recbole_fofa.data.location import DatasetFiles, locate
from recbole_fofa.errors import ConfigError
from recbole_fofa.quick_start import checked_config

SETTINGS: dict[str, Any] = {
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "TIME_FIELD": "timestamp",
    "LIST_SUFFIX": "_list",
    "field_separator": "\t",
    "seq_separator": " ",
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "unload_col": None,
    "topk": [1],
    "missing_time": "error",
    "MODEL_TYPE": SimpleNamespace(name="SEQUENTIAL"),
    "eval_args": {"order": "TO"},
    "benchmark_filename": None,
}
GENERAL = {"MODEL_TYPE": SimpleNamespace(name="GENERAL"), "eval_args": {"order": "RO"}}


def inspect(folder: Path, **changed: Any) -> tuple[list[str], FileReport | None]:
    given = {**SETTINGS, **changed}
    return inspect_files(locate(str(folder), "", bool(given["benchmark_filename"])), given)


def only_fault(folder: Path, **changed: Any) -> str:
    faults, _ = inspect(folder, **changed)
    assert len(faults) == 1, faults
    assert "\n" not in faults[0]
    return faults[0]


def report_of(folder: Path, **changed: Any) -> FileReport:
    faults, report = inspect(folder, **changed)
    assert faults == []
    assert report is not None
    return report


def write_bytes(folder: Path, content: bytes, name: str = "raw") -> Path:
    folder = folder / name
    folder.mkdir()
    (folder / f"{name}.inter").write_bytes(content)
    return folder


def with_rows(folder: Path, *rows: str) -> Path:
    """Header on line 1, good rows on lines 2 and 3, then the given ones."""
    lines = ["\t".join(HEADER), "u0\ti0\t1", "u0\ti1\t2", *rows, ""]
    return write_bytes(folder, "\n".join(lines).encode())


# Files without fault


@pytest.mark.parametrize("name", ["tiny", "tiny_gz", "short", "ts32", "alltwo", "test_only"])
def test_good_files(tmp_path: Path, name: str) -> None:
    folder = getattr(data_files, f"write_{name}")(tmp_path)
    assert report_lines(report_of(folder))[0].startswith(f"{folder.name}.inter: ")


def test_counts_are_those_of_the_file(tmp_path: Path) -> None:
    report = report_of(write_tiny(tmp_path))
    assert report == FileReport("tiny", 160, 20, 30, 0, 0, 0, 0, 0, 8)
    assert report_lines(report) == ["tiny.inter: 160 interactions of 20 users over 30 items"]


def test_the_copy_in_recbole(tmp_path: Path) -> None:
    faults, report = inspect_files(locate("ml-100k", tmp_path), SETTINGS)
    assert faults == []
    assert report is not None
    expected = "ml-100k.inter: 100000 interactions of 943 users over 1682 items"
    assert report_lines(report)[0] == expected


def test_a_data_set_to_be_downloaded(tmp_path: Path) -> None:
    assert inspect_files(DatasetFiles("ml-1m", tmp_path, None, known=True), SETTINGS) == ([], None)


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_line_ends_of_other_systems(tmp_path: Path, end: bytes) -> None:
    # RecBole opens the header in text mode, so its cut of the last character is harmless.
    content = (write_tiny(tmp_path) / "tiny.inter").read_bytes()
    assert report_of(write_bytes(tmp_path, content.replace(b"\n", end))).n_rows == 160


def test_no_end_of_the_last_line_and_blank_lines(tmp_path: Path) -> None:
    folder = write_bytes(tmp_path, "\t".join(HEADER).encode() + b"\n\nu\ti\t1\n   \nu\tj\t2")
    assert report_of(folder).n_rows == 2


def test_blocks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [data_files.write_dups(tmp_path), data_files.write_nants(tmp_path)]
    whole = [inspect(folder) for folder in folders]
    monkeypatch.setattr(atomic_file, "_BLOCK_CHARS", 50)
    assert [inspect(folder) for folder in folders] == whole


# Header


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", r"is empty.*user_id:token<TAB>item_id:token<TAB>timestamp:float"),
        (b"\nu\ti\t1\n", "is empty, or its first line is"),
        (b"user_id:token\titem_id:token\ttimestamp:float", "has a header but no rows"),
        (b"user_id:token\titem_id:token\ttimestamp:float\n\n", "has a header but no rows"),
        (b"1\t2\t3\n", r"line 1 is data, not a header: insert before it the line user_id:token<"),
        (
            b"user_id:token\titem_id:token\ttimestamp:Float\nu\ti\t1\n",
            r"valid type in 'timestamp:Float'.*write the first line as .*<TAB>timestamp:float$",
        ),
        (
            b"user_id:token\titem_id:token\ttimestamp:float\tx:y:token\nu\ti\t1\t2\n",
            r"valid type in 'x:y:token'",
        ),
        (
            b"user_id:token\titem_id:token\titem_id:token\ttimestamp:float\nu\ti\ti\t1\n",
            r"names 'item_id' more than once",
        ),
        (
            b"\xef\xbb\xbfuser_id:token\titem_id:token\ttimestamp:float\nu\ti\t1\n",
            "byte order mark.*set encoding: utf-8-sig",
        ),
    ],
)
def test_headers(tmp_path: Path, content: bytes, expected: str) -> None:
    fault = only_fault(write_bytes(tmp_path, content))
    assert fault.startswith(str(tmp_path / "raw" / "raw.inter"))
    assert re.search(expected, fault)


def test_header_without_types(tmp_path: Path) -> None:
    fault = only_fault(data_files.write_nohdrtype(tmp_path))
    assert "without a valid type in 'user_id', 'item_id', 'timestamp'" in fault
    assert fault.endswith("user_id:token<TAB>item_id:token<TAB>timestamp:float")


@pytest.mark.parametrize(
    ("separator", "remedy"),
    [(",", "','"), (";", "';'"), ("|", "'|'"), (" ", "' '")],
)
def test_other_separator(tmp_path: Path, separator: str, remedy: str) -> None:
    folder = write_inter(tmp_path, "csv", interactions(), separator=separator)
    assert only_fault(folder).endswith(f"set field_separator: {remedy}")
    assert report_of(folder, field_separator=separator).n_items == 30


def test_tab_where_another_separator_is_set(tmp_path: Path) -> None:
    # As a shell hands over --field_separator='\\t': two characters, not a tab.
    fault = only_fault(write_tiny(tmp_path), field_separator="\\t")
    assert fault.endswith('set field_separator: "\\t"')


def test_separator_of_several_characters(tmp_path: Path) -> None:
    folder = write_inter(tmp_path, "long", interactions(), separator="%%")
    assert report_of(folder, field_separator="%%").n_rows == 160


def test_comma_file_without_types_has_two_faults(tmp_path: Path) -> None:
    faults, _ = inspect(write_inter(tmp_path, "c", interactions(), ["user_id", "item_id"], ","))
    assert [("field_separator" in f, "valid type" in f) for f in faults[:2]] == [
        (True, False),
        (False, True),
    ]


# Columns


def test_time_absent_not_loaded_and_misnamed_read_differently(tmp_path: Path) -> None:
    absent = only_fault(data_files.write_notime(tmp_path))
    assert absent.startswith(str(tmp_path / "notime" / "notime.inter"))
    assert re.search("no column 'timestamp'.*add a column headed timestamp:float$", absent)

    load_col = {"inter": ["user_id", "item_id"]}
    not_loaded = only_fault(write_tiny(tmp_path), load_col=load_col)
    assert re.search("'timestamp' is in the file but not loaded", not_loaded)
    assert not_loaded.endswith("set load_col: {inter: [user_id, item_id, timestamp]}")

    misnamed = only_fault(data_files.write_mistime(tmp_path))
    assert re.search("no column 'timestamp'.*set TIME_FIELD: event_time and load_col", misnamed)


def test_time_that_unload_col_takes_away(tmp_path: Path) -> None:
    unload_col = {"inter": ["timestamp"]}
    fault = only_fault(write_tiny(tmp_path), load_col=None, unload_col=unload_col)
    assert "unload_col.inter lists it" in fault


def test_time_is_needed_only_where_it_orders(tmp_path: Path) -> None:
    folder = data_files.write_notime(tmp_path)
    assert report_of(folder, **GENERAL).n_rows == 160
    by_order = {**GENERAL, "eval_args": {"order": "TO"}}
    assert "eval_args.order TO sorts by it" in only_fault(folder, **by_order)


def test_renamed_ids(tmp_path: Path) -> None:
    faults, report = inspect(data_files.write_renamed(tmp_path))
    assert report is None
    found = "columns found: 'session_id', 'product', 'timestamp'"
    load_col = "load_col: {inter: [session_id, product, timestamp]}"
    for fault, key, name in (
        (faults[0], "USER_ID_FIELD", "session_id"),
        (faults[1], "ITEM_ID_FIELD", "product"),
    ):
        assert found in fault
        assert fault.endswith(f"set {key}: {name} and {load_col}")
    assert len(faults) == 2


def test_unguessable_ids(tmp_path: Path) -> None:
    folder = write_inter(tmp_path, "odd", interactions(), ("a:token", "b:token", HEADER[2]))
    faults, _ = inspect(folder)
    assert "or set USER_ID_FIELD to one of those found" in faults[0]


def test_wrong_types(tmp_path: Path) -> None:
    header = ("user_id:float", "item_id:token", "timestamp:token")
    rows = [[1, "i", 5], [2, "j", 6]]
    faults, report = inspect(write_inter(tmp_path, "types", rows, header))
    assert [f.rpartition(": ")[2] for f in faults] == [
        "write user_id:token in the header",
        "write timestamp:float in the header",
    ]
    assert report is not None
    assert report.n_users == 2


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"load_col": ["user_id"]}, "load_col is .*write load_col: {inter: "),
        ({"load_col": {"inter": "user_id"}}, r"write load_col: {inter: \[user_id\]}"),
        ({"load_col": {"user": ["user_id"]}}, "but not loaded"),
        ({"unload_col": {"inter": ["x"]}}, "load_col and unload_col both have an entry for inter"),
        ({"USER_ID_FIELD": None}, "USER_ID_FIELD is not set"),
    ],
)
def test_settings_of_columns(tmp_path: Path, setting: dict[str, Any], expected: str) -> None:
    faults, _ = inspect(write_tiny(tmp_path), **setting)
    assert any(re.search(expected, fault) for fault in faults), faults


def test_a_listed_column_that_the_file_lacks_is_a_warning(tmp_path: Path) -> None:
    load_col = {"inter": [*SETTINGS["load_col"]["inter"], "rating"]}
    lines = report_lines(report_of(write_tiny(tmp_path), load_col=load_col))
    assert re.search("^warning: .*tiny.inter has no column 'rating'", lines[1])


# Rows


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["u1\ti1"], "1 row with a wrong number of fields, first line 4: 2 instead of 3"),
        (["u1\ti1\t3\tx", "u1"], "2 rows with a wrong number of fields, first line 4: 4 instead"),
        (["", "", "u1"], "1 row with a wrong number of fields, first line 6: 1 instead of 3"),
        (["u1\ti1\tsoon"], "'timestamp' holds 1 value that are not numbers, first line 4: 'soon'"),
        (["u1\ti1\t2020-01-01", "u\ti\tx"], "2 values .* line 4: '2020-01-01': write seconds"),
        (["", "u1\ti1\tinf", "u\ti\t-inf"], "2 values that are infinite, first line 5"),
        (["u1\ti1\t"], "'timestamp' is blank in 1 row, first line 4.*missing_time: previous"),
        (["u1\ti1\tNaN"], "'timestamp' is blank in 1 row, first line 4"),
        (['"u1\ti1\t3', 'u2"\ti1\t3'], "1 row with a quotation mark .* first line 4"),
        (["u1\ti\0\t3"], "1 row with a zero byte, first line 4"),
    ],
)
def test_rows(tmp_path: Path, rows: list[str], expected: str) -> None:
    fault = only_fault(with_rows(tmp_path, *rows))
    assert fault.startswith(str(tmp_path / "raw" / "raw.inter"))
    assert re.search(expected, fault), fault


def test_all_faults_are_found_together(tmp_path: Path) -> None:
    rows = ["u1", "u1\ti1\tx", "u1\ti1\t", "u1\ti1\tinf"]
    faults, _ = inspect(with_rows(tmp_path, *rows), load_col={"inter": ["user_id", "item_id"]})
    assert len(faults) == 5


def test_quotation_marks_that_close(tmp_path: Path) -> None:
    assert report_of(with_rows(tmp_path, '"a\tb"\ti1\t3', 'say "x"\ti1\t4')).n_users == 3


def test_blank_times_may_be_filled(tmp_path: Path) -> None:
    folder = data_files.write_nants(tmp_path)
    assert re.search("blank in 10 rows, first line 5", only_fault(folder))
    report = report_of(folder, missing_time="previous")
    assert (report.n_rows, report.n_blank_times) == (160, 10)
    assert any("10 rows without a timestamp" in line for line in report_lines(report))


def test_blank_ids_are_counted_not_refused(tmp_path: Path) -> None:
    report = report_of(with_rows(tmp_path, "\ti1\t3", "NA\ti1\t3", "u1\t\t3"))
    assert (report.n_rows, report.n_blank_ids) == (2, 3)
    assert any(line.startswith("warning: 3 rows without user") for line in report_lines(report))


def test_no_row_with_both_ids(tmp_path: Path) -> None:
    folder = write_inter(tmp_path, "void", [["", "i", 1], ["u", "", 2]])
    assert "no row has both" in only_fault(folder)


def test_loaded_numbers_are_read_too(tmp_path: Path) -> None:
    folder = write_inter(tmp_path, "r", [["u", "i", 1, "good"]], (*HEADER, "rating:float"))
    assert report_of(folder).n_rows == 1
    assert re.search("column 'rating' .* line 2: 'good'", only_fault(folder, load_col=None))


# Files that cannot be read


def test_other_encoding(tmp_path: Path) -> None:
    folder = with_rows(tmp_path, "J\xfcrgen\ti1\t3")
    (folder / "raw.inter").write_text((folder / "raw.inter").read_text("utf-8"), "latin-1")
    assert re.search("not text in encoding utf-8.*encoding: latin-1", only_fault(folder))
    assert report_of(folder, encoding="latin-1").n_users == 2
    assert "unknown encoding 'latin-one'" in only_fault(folder, encoding="latin-one")


def test_utf_16(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path)
    (folder / "tiny.inter").write_text((folder / "tiny.inter").read_text(), "utf-16")
    assert "not text in encoding utf-8" in only_fault(folder)
    assert report_of(folder, encoding="utf-16").n_rows == 160


@pytest.mark.parametrize("cut", [0, 30])
def test_broken_gzip(tmp_path: Path, cut: int) -> None:
    content = gzip.compress((write_tiny(tmp_path) / "tiny.inter").read_bytes())
    (tmp_path / "bad").mkdir()
    broken = content[:-cut] if cut else b"user_id:token\n"
    (tmp_path / "bad" / "bad.inter.gz").write_bytes(broken)
    assert "cannot be decompressed" in only_fault(tmp_path / "bad")


def test_a_file_that_vanished(tmp_path: Path) -> None:
    files = DatasetFiles("x", tmp_path, tmp_path / "x.inter")
    faults, report = inspect_files(files, SETTINGS)
    assert re.search("x.inter: cannot be read", faults[0])
    assert report is None


# Counts


def test_exact_duplicates_are_a_warning(tmp_path: Path) -> None:
    report = report_of(data_files.write_dups(tmp_path))
    assert (report.n_rows, report.n_exact_duplicates, report.n_time_ties) == (320, 160, 320)
    assert any(
        line.startswith("warning: 160 exact duplicate rows") for line in report_lines(report)
    )


def test_time_ties(tmp_path: Path) -> None:
    report = report_of(with_rows(tmp_path, "u0\ti5\t2", "u0\ti6\t2", "u1\ti6\t2"))
    assert (report.n_exact_duplicates, report.n_time_ties) == (0, 3)
    assert "3 interactions share user and timestamp with another" in report_lines(report)[1]


def test_times_that_float32_would_merge(tmp_path: Path) -> None:
    report = report_of(data_files.write_ts32(tmp_path))
    assert (report.n_time_ties, report.n_float32_ties) == (0, 8)
    assert "8 interactions more would tie" in report_lines(report)[1]


def test_nanosecond_times(tmp_path: Path) -> None:
    lines = report_lines(report_of(with_rows(tmp_path, f"u0\ti3\t{1_700_000_000 * 10**9}")))
    assert any(re.search(r"^warning: timestamps above 2\^53", line) for line in lines)


# topk


def test_topk_above_the_number_of_items(tmp_path: Path) -> None:
    folder = data_files.write_fewitems(tmp_path)
    fault = only_fault(folder, topk=[3, 10])
    assert "10 is more than the 5 items" in fault
    assert fault.endswith("the largest k allowed is 5; set topk: [3]")
    assert only_fault(folder, topk=10).endswith("set topk: [5]")
    assert report_of(folder, topk=[5]).n_items == 5
    assert report_of(folder, topk=[10], eval_type=SimpleNamespace(name="VALUE")).n_items == 5


def test_topk_counts_items_of_a_loaded_item_file_too(tmp_path: Path) -> None:
    folder = data_files.write_fewitems(tmp_path)
    write_file(folder / "fewitems.item", ["item_id:token"], [[f"i{n}"] for n in range(20)])
    load_col = {**SETTINGS["load_col"], "item": ["item_id"]}
    assert report_of(folder, topk=[10], load_col=load_col).n_items == 5


# Feature files and pre-split files


def test_feature_files(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path)
    write_file(folder / "tiny.user", ["uid:token", "age:float"], [["u0", 3]])
    inter = SETTINGS["load_col"]
    assert report_of(folder).n_rows == 160  # not listed, so not loaded
    fault = only_fault(folder, load_col={**inter, "user": ["user_id", "age"]})
    assert re.search("tiny.user: no column 'user_id' .USER_ID_FIELD.*'uid', 'age'", fault)
    write_file(folder / "tiny.user", ["user_id:token", "age"], [["u0", 3]])
    assert "tiny.user: header without a valid type in 'age'" in only_fault(folder, load_col=None)
    lines = report_lines(report_of(folder, load_col={**inter, "item": ["item_id"]}))
    assert re.search("^warning: .*tiny.item does not exist", lines[1])


def test_rows_of_feature_files(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path)
    header = ["item_id:token", "price:float"]
    load_col = {**SETTINGS["load_col"], "item": ["item_id", "price"]}
    write_file(folder / "tiny.item", header, [["i1", 2], ["i2", "abc"]])
    fault = only_fault(folder, load_col=load_col)
    assert re.search("tiny.item: column 'price' holds 1 value that.*line 3: 'abc'", fault)
    write_file(folder / "tiny.item", header, [["i1", 2], ["i2"]])
    assert "tiny.item: 1 row with a wrong number of fields" in only_fault(folder, load_col=load_col)
    write_file(folder / "tiny.item", header, [])
    assert "tiny.item: has a header but no rows" in only_fault(folder, load_col=load_col)


def test_additional_files(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path)
    fault = only_fault(folder, additional_feat_suffix=["ent"], load_col=None)
    assert "tiny.ent does not exist, but additional_feat_suffix lists ent" in fault
    write_file(folder / "tiny.ent", ["ent_id:token"], [["e"]])
    assert report_of(folder, additional_feat_suffix="ent", load_col=None).n_rows == 160


def test_pre_split_files(tmp_path: Path) -> None:
    folder = data_files.write_bench(tmp_path)
    given: dict[str, Any] = dict(data_files.BENCH_SETTINGS)
    report = report_of(folder, **given)
    assert (report.n_rows, report.n_users, report.n_items) == (12, 12, 12)
    given["alias_of_item_id"] = None
    assert "set alias_of_item_id: [item_id_list]" in only_fault(folder, **given)
    (folder / "bench.valid.inter").unlink()
    faults, _ = inspect(folder, **given)
    assert any("bench.valid.inter does not exist" in fault for fault in faults)


def test_pre_split_files_without_histories(tmp_path: Path) -> None:
    rows = [["s", "i"]]
    for part in ("train", "valid", "test"):
        header = ["session_id:token", "item_id:token"]
        write_file(tmp_path / "flat" / f"flat.{part}.inter", header, rows)
    faults, _ = inspect(tmp_path / "flat", **data_files.BENCH_SETTINGS)
    assert [("item_id_list:token_seq" in fault) for fault in faults] == [True] * 3


# Whatever is in the file

PIECES = st.sampled_from(
    [b"user_id:token", b"item_id:token", b"timestamp:float", b"\t", b"\t", b"\n", b"\n", b",", b'"',
     b"u", b"i", b"1", b"inf", b"NA", b" ", b"\r", b"\xef\xbb\xbf", b"\0", b":", b"\xff", b"1e999"]
)  # fmt: skip
SLOW_DISK = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@SLOW_DISK
@given(
    start=st.sampled_from([b"", b"user_id:token\titem_id:token\ttimestamp:float\n"]),
    content=st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=40).map(b"".join)),
    load_all=st.booleans(),
)
def test_no_file_makes_it_raise(
    tmp_path: Path, start: bytes, content: bytes, load_all: bool
) -> None:
    path = tmp_path / "any.inter"
    path.write_bytes(start + content)
    changed = {"load_col": None} if load_all else {}
    files = DatasetFiles("any", tmp_path, path)
    faults, report = inspect_files(files, {**SETTINGS, **changed})
    assert faults or report is not None
    assert all("\n" not in fault for fault in faults)
    if report is not None:
        report_lines(report)


IDS = st.sampled_from(
    ["u", "v", "V", "NA", "null", "", " ", " u", "a b", '"q"', 'x"y', '"', "é", "#", "1e5", "\0"]
)  # fmt: skip
TIMES = st.sampled_from(["1", "2.5", " 3", "1_0", "0x10", "1e3", "+4", "-5", "", "NaN", "inf"])
LINES = st.one_of(
    st.tuples(IDS, IDS, TIMES).map("\t".join), st.sampled_from(["", " ", "\t", "\t\t", "u\ti"])
)


@SLOW_DISK
@given(lines=st.lists(LINES, max_size=8), end=st.sampled_from(["\n", "\r\n"]))
def test_what_passes_is_read_alike_by_recbole(tmp_path: Path, lines: list[str], end: str) -> None:
    path = tmp_path / "any.inter"
    path.write_bytes(end.join(["\t".join(HEADER), "u\ti\t1", *lines]).encode())
    given = {**SETTINGS, "missing_time": "previous"}
    faults, report = inspect_files(DatasetFiles("any", tmp_path, path), given)
    if faults:
        return
    assert report is not None
    # As RecBole's _load_feat and _filter_nan_user_or_item.
    types = dict(zip(HEADER, (str, str, np.float64), strict=True))
    read = pd.read_csv(
        path, delimiter="\t", usecols=list(HEADER), dtype=types, encoding="utf-8", engine="python"
    )
    kept = read.dropna(subset=list(HEADER[:2]))
    assert report.n_blank_ids == len(read) - len(kept)
    assert (report.n_rows, report.n_users, report.n_items) == (
        len(kept),
        kept[HEADER[0]].nunique(),
        kept[HEADER[1]].nunique(),
    )


ROWS = st.lists(
    st.tuples(
        st.sampled_from("abcde"),
        st.sampled_from("vwxyz"),
        st.integers(1_700_000_000, 1_700_000_009),
    ),
    min_size=1,
    max_size=60,
)


@SLOW_DISK
@given(rows=ROWS)
def test_counts_agree_with_plain_counting(tmp_path: Path, rows: list[tuple[str, str, int]]) -> None:
    report = report_of(write_inter(tmp_path, "p", rows))
    pairs = [(user, time) for user, _, time in rows]
    assert report.n_rows == len(rows)
    assert report.n_users == len({user for user, _, _ in rows})
    assert report.n_items == len({item for _, item, _ in rows})
    assert report.n_exact_duplicates == len(rows) - len(set(rows))
    assert report.n_time_ties == sum(pairs.count(pair) > 1 for pair in pairs)


@pytest.mark.parametrize(
    ("changed", "warns"),
    [
        ({}, False),  # RecBole's models have no session windows
        ({"train_regime": "session", "session_length": 9}, True),
        ({"train_regime": "session", "session_length": 8}, False),
        ({"train_regime": "session", "session_length": 9, "MAX_ITEM_LIST_LENGTH": 8}, False),
        ({"train_regime": "session", "session_length": 9, "val_interval": {"x": "[1,2]"}}, False),
        ({"train_regime": "prefix", "session_length": 9}, False),
        (
            {"train_regime": "session", "session_length": 9, "session_gap_seconds": 60.0},
            False,
        ),
    ],
)
def test_windows_longer_than_histories(tmp_path: Path, changed: Any, warns: bool) -> None:
    given_settings = {"MAX_ITEM_LIST_LENGTH": 50, **changed}
    lines = report_lines(report_of(write_tiny(tmp_path), **given_settings))
    expected = "warning: half of the users have 8 interactions or fewer, and a session window has"
    assert [line.startswith(expected) for line in lines[1:]] == [True] * warns


@pytest.mark.parametrize("setting", ["train_regime", "mask_history"])
def test_what_split_files_cannot_do_is_the_only_fault(tmp_path: Path, setting: str) -> None:
    """Nothing is said of the whole file, which there is not to be."""
    given_settings = {**data_files.BENCH_SETTINGS, "train_regime": "prefix", "topk": 3}
    given_settings |= {"valid_metric": "MRR@3", "MAX_ITEM_LIST_LENGTH": 5}
    given_settings |= {"train_regime": "session"} if setting == "train_regime" else {setting: True}
    with pytest.raises(ConfigError) as caught:
        checked_config(None, str(data_files.write_bench(tmp_path)), config_dict=given_settings)
    assert len(caught.value.faults) == 1 and setting in caught.value.faults[0]
