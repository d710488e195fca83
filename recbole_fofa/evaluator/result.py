"""The result of an evaluation, as plain data that is written, read and compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recbole_fofa.errors import DataError
from recbole_fofa.whole_file import write_whole

VERSION = 1
REPORT = "report.json"
CHOSEN, SHUFFLED = "chosen per user", "shuffled over users"
"""Ways of choosing structures, as rows are labelled."""


def row_label(way: str, profile: str | None) -> str:
    """A row's name in per-user values and comparisons."""
    return way if profile is None else f"{profile}: {way}"


@dataclass(frozen=True)
class SliceResult:
    """A group of cases.

    Attributes:
        n: Number of cases; of none there are no metrics.
        metrics: Means, unrounded.
        keep_rate: Share of the cases that keep each block.
    """

    n: int
    metrics: dict[str, float]
    keep_rate: list[float] | None = None


@dataclass(frozen=True)
class Row:
    """One way of using the model, over all cases.

    Attributes:
        way: What chooses the structure; the model's name for a model without structures.
        profile: Device class; ``None`` for what is no device class.
        age: Interactions since the payload was made.
        n: Number of cases.
        metrics: Means over the cases, unrounded.
        errors: Standard error of each; of fewer than two cases there are none.
        keep_rate: Share of the cases that keep each block, ``L`` numbers.
        counts: Cases of each structure, most common first.
        violations: Cases whose structure is over a limit of the profile.
        macs: Of a request at full input length, without scores: ``mean`` and ``p95``.
        full_macs: The same with all blocks.
        payload_bytes: ``mean`` and ``p95``.
        memory_bytes: Bundle, kept blocks and states: ``mean`` and ``p95``.
        uplink_bytes: Of every case.
        slices: Groups of cases by name.
    """

    way: str
    profile: str | None
    age: int
    n: int
    metrics: dict[str, float]
    errors: dict[str, float] = field(default_factory=dict)
    keep_rate: list[float] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    violations: int | None = None
    macs: dict[str, float] = field(default_factory=dict)
    full_macs: int | None = None
    payload_bytes: dict[str, float] = field(default_factory=dict)
    memory_bytes: dict[str, float] = field(default_factory=dict)
    uplink_bytes: int | None = None
    slices: dict[str, SliceResult] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """See :func:`row_label`."""
        return row_label(self.way, self.profile)

    @property
    def macs_share(self) -> float | None:
        """Mean MACs relative to all blocks."""
        return self.macs["mean"] / self.full_macs if self.macs and self.full_macs else None

    def share_of(self, kept: int) -> float:
        """Share of cases that keep all blocks (1) or none (0)."""
        found = sum(n for code, n in self.counts.items() if set(code) == {str(kept)})
        return found / self.n if self.n else 0.0


@dataclass(frozen=True)
class DeviceReport:
    """What ``report.json`` holds.

    Attributes:
        protocol: What was ranked, for whom: two results are comparable only if it is equal.
        model: Which model, and how it was trained.
        rows: Over all cases.
        staleness: Over the cases whose history is long enough for the oldest payload, at each
            age, 0 included.
        per_user: SHA-256 of the file of per-user values beside it.
        measured: What differs from run to run: milliseconds of a request by number of kept
            blocks, threads, versions.
    """

    protocol: dict[str, Any]
    model: dict[str, Any]
    rows: list[Row]
    staleness: list[Row] = field(default_factory=list)
    per_user: str = ""
    measured: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        text = json.dumps({"version": VERSION, **asdict(self)}, indent=2)
        write_whole(path, (text + "\n").encode())


def read_report(path: Path) -> DeviceReport:
    """A report that was written before; a folder stands for its ``report.json``.

    Raises:
        DataError: If it cannot be read.
    """
    path = path / REPORT if path.is_dir() else path
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["version"] != VERSION:
            raise ValueError(f"version {found['version']}, but this is read: {VERSION}")
        rows, stale = ([_row(row) for row in found[key]] for key in ("rows", "staleness"))
        parts = found["protocol"], found["model"], rows, stale, found["per_user"], found["measured"]
        if not rows or not found["protocol"]["metrics"] or "settings" not in found["model"]:
            raise ValueError("it has no rows, no metrics or no settings")
        return DeviceReport(*parts)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no report of device-eval: {type(error).__name__}: {error}"
        ) from None


def _row(found: Mapping[str, Any]) -> Row:
    slices = {name: SliceResult(**one) for name, one in found["slices"].items()}
    return Row(**{**found, "slices": slices})
