"""Writers of the small data sets that tests share.

``write_tiny(folder)`` writes ``folder/tiny/tiny.inter`` and returns ``folder/tiny``; the others do
the same under their own name. With RecBole's keys: ``data_path=str(folder), dataset="tiny"``.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path

Row = Sequence[object]

HEADER = ("user_id:token", "item_id:token", "timestamp:float")
LOAD_COL = {"inter": ["user_id", "item_id", "timestamp"]}


def write_file(
    path: Path, header: Sequence[str], rows: Iterable[Row], separator: str = "\t"
) -> Path:
    """Write one atomic file; a name that ends in .gz is compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [separator.join(header), *(separator.join(map(str, row)) for row in rows)]
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_inter(
    folder: Path,
    name: str,
    rows: Iterable[Row],
    header: Sequence[str] = HEADER,
    separator: str = "\t",
    suffix: str = "inter",
) -> Path:
    """Write ``folder/name/name.inter`` and return ``folder/name``."""
    return write_file(folder / name / f"{name}.{suffix}", header, rows, separator).parent


def interactions(n_users: int = 20, length: int = 8, n_items: int = 30) -> list[list[object]]:
    """Rows of users who each meet ``length`` different items, 10 seconds apart.

    Args:
        n_users: Number of users, ``u0`` and on.
        length: Interactions of each user; at most ``n_items``.
        n_items: Number of items, ``i0`` and on; all appear if there are enough rows.

    Returns:
        Rows of user, item and timestamp, user by user, oldest first.
    """
    return [
        [f"u{user}", f"i{(user * 7 + step) % n_items}", 1_000_000 + 1000 * user + 10 * step]
        for user in range(n_users)
        for step in range(length)
    ]


def write_tiny(folder: Path, name: str = "tiny") -> Path:
    """20 users x 8 interactions over 30 items."""
    return write_inter(folder, name, interactions())


def write_tiny_gz(folder: Path, name: str = "tiny") -> Path:
    """``tiny`` as ``tiny.inter.gz``."""
    return write_inter(folder, name, interactions(), suffix="inter.gz")


def write_short(folder: Path) -> Path:
    """Users ``u1`` .. ``u4`` with 1, 2, 3 and 4 interactions."""
    rows = [[f"u{n}", f"i{step}", 100 * n + step] for n in (1, 2, 3, 4) for step in range(n)]
    return write_inter(folder, "short", rows)


def write_notime(folder: Path) -> Path:
    """``tiny`` without a time column."""
    return write_inter(folder, "notime", [row[:2] for row in interactions()], HEADER[:2])


def write_mistime(folder: Path) -> Path:
    """``tiny`` whose time column is called ``event_time``."""
    return write_inter(folder, "mistime", interactions(), (*HEADER[:2], "event_time:float"))


def write_renamed(folder: Path) -> Path:
    """``tiny`` whose id columns are ``session_id`` and ``product``."""
    header = ("session_id:token", "product:token", "timestamp:float")
    return write_inter(folder, "renamed", interactions(), header)


def write_nohdrtype(folder: Path) -> Path:
    """``tiny`` whose header has no types."""
    header = [column.partition(":")[0] for column in HEADER]
    return write_inter(folder, "nohdrtype", interactions(), header)


def write_csv(folder: Path) -> Path:
    """``tiny`` separated by commas."""
    return write_inter(folder, "csv", interactions(), separator=",")


def write_ts32(folder: Path, n_users: int = 1) -> Path:
    """Items i0 .. i7, one second apart near 1.7e9, written newest first."""
    rows = [
        [f"u{user}", f"i{step}", 1_700_000_000 + step]
        for user in range(n_users)
        for step in reversed(range(8))
    ]
    return write_inter(folder, "ts32", rows)


BENCH_SETTINGS: dict[str, object] = {
    "USER_ID_FIELD": "session_id",
    "load_col": {"inter": ["session_id", "item_id_list", "item_id"]},
    "alias_of_item_id": ["item_id_list"],
    "benchmark_filename": ["train", "valid", "test"],
    "MAX_ITEM_LIST_LENGTH": 5,
}


def write_bench(folder: Path) -> Path:
    """Pre-split sessions with up to 8 items each; use with ``BENCH_SETTINGS``."""
    header = ("session_id:token", "item_id_list:token_seq", "item_id:token")
    items = [f"i{n}" for n in range(12)]
    parts: dict[str, list[Row]] = {"train": [], "valid": [], "test": []}
    for session in range(12):
        part = ("train", "train", "valid", "test")[session % 4]
        length = 8 if session % 2 == 0 else 3
        history = [items[(session + n) % 12] for n in range(length)]
        parts[part].append([f"s{session}", " ".join(history), items[(session + length) % 12]])
    for part, rows in parts.items():
        write_file(folder / "bench" / f"bench.{part}.inter", header, rows)
    return folder / "bench"


def write_dups(folder: Path) -> Path:
    """``tiny`` with each row twice."""
    return write_inter(folder, "dups", [row for row in interactions() for _ in range(2)])


def write_nants(folder: Path) -> Path:
    """``tiny`` with 10 blank timestamps of 160, none in a user's first row."""
    rows = interactions()
    for user in range(10):
        rows[8 * user + 3][2] = ""
    return write_inter(folder, "nants", rows)


def write_fewitems(folder: Path) -> Path:
    """20 users over 5 items."""
    return write_inter(folder, "fewitems", interactions(length=5, n_items=5))


def write_labeled(folder: Path) -> Path:
    """``tiny`` with a rating of 1 .. 5 and a 0/1 label."""
    rows = [[*row, n % 5 + 1, n % 2] for n, row in enumerate(interactions())]
    return write_inter(folder, "labeled", rows, (*HEADER, "rating:float", "label:float"))


def write_alltwo(folder: Path) -> Path:
    """10 users with 2 interactions each: leave-one-out leaves nothing to evaluate."""
    return write_inter(folder, "alltwo", interactions(n_users=10, length=2))


TEST_ONLY_SETTINGS: dict[str, object] = {
    "eval_args": {"split": {"LS": "test_only"}, "order": "TO", "mode": "full", "group_by": "user"}
}


def write_test_only(folder: Path) -> Path:
    """``tiny`` under another name, for a split without a valid part (``TEST_ONLY_SETTINGS``)."""
    return write_tiny(folder, "test_only")
