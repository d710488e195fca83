"""A metric of every single user, as tests of significance need it, without what names the users.

One file a run in ``results/users/``: an array for each protocol, in the order of the users' names,
and a digest of those names and, where candidates were drawn, of these. The values are those of a
model; the data cannot be told from them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from record import RESULTS, digest

from recbole_fofa.errors import DataError
from recbole_fofa.evaluator.per_user import FILE, per_user_values
from recbole_fofa.evaluator.result import DeviceReport, read_report
from recbole_fofa.whole_file import write_whole

METRIC = "ndcg@10"
FOLDER = RESULTS / "users"


def keep_values(reports: Iterable[Path], file: Path) -> None:
    """From the folder of each protocol's report, which has the protocol's name."""
    arrays: dict[str, np.ndarray] = {}
    for report in reports:
        found = read_report(report)
        values = per_user_values(report / FILE, found.rows[0].label, METRIC)
        names = sorted(values)
        arrays[report.name] = np.array([values[name] for name in names])
        arrays[f"users of {report.name}"] = np.array(digest([*names, *_drawn(found)]))
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, packed.getvalue())


def _drawn(report: DeviceReport) -> list[str]:
    """What users are asked to rank, where it is not all items: only like draws are compared."""
    candidates = report.protocol["candidates"]
    return [candidates["digest"]] if isinstance(candidates, dict) else []


def over_seeds(files: Iterable[Path], protocol: str) -> tuple[np.ndarray, str]:
    """Each user's mean over seeds, and the digest of who they are and of what was drawn for them.

    Raises:
        DataError: If the files are of different users or draws.
    """
    values, users = [], set()
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            values.append(arrays[protocol])
            users.add(str(arrays[f"users of {protocol}"]))
    if len(users) > 1:
        raise DataError(
            f"{file.parent} has files of different users or candidates: repeat the older runs"
        )
    return np.mean(values, axis=0), users.pop()
