"""From cases to a row of the report, in sums that do not grow with the cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recbole_fofa.device.payload import structure_text
from recbole_fofa.evaluator.device_class import Way
from recbole_fofa.evaluator.quality import Means, Values
from recbole_fofa.evaluator.result import Row, SliceResult


@dataclass
class Tally:
    """Running sums of a row.

    Attributes:
        way: Of the row.
        means: Over all cases.
        slices: Over groups of cases, by name.
        counts: Cases of each structure's code.
    """

    way: Way
    means: Means = field(default_factory=Means)
    slices: dict[str, Means] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)

    def add(
        self, structure: np.ndarray, values: Values, masks: Mapping[str, NDArray[np.bool_]]
    ) -> None:
        """Add cases: structures ``[B, L]``, metrics ``[B]``, groups by name."""
        kept: dict[str, np.ndarray] = {**values, "keep_rate": structure}
        self.means.add(kept)
        for name, mask in masks.items():
            self.slices.setdefault(name, Means()).add(kept, mask)
        codes = structure @ (1 << np.arange(structure.shape[1]))
        self.counts.update(codes.tolist())

    def row(self, uplink_bytes: int) -> Row:
        """What the report shows."""
        means = self.means.plain()
        keep_rate = means.pop("keep_rate", None)
        return Row(
            way=self.way.name,
            profile=self.way.shown_profile,
            age=self.way.age,
            n=self.means.n,
            metrics=means,
            errors=standard_errors(self.means, means),
            keep_rate=keep_rate,
            counts={self._text(code): n for code, n in self.counts.most_common()},
            violations=self._violations(),
            macs=self._spread("macs"),
            full_macs=self.way.device.costs[-1].macs,
            payload_bytes=self._spread("payload_bytes"),
            memory_bytes=self._spread("memory_bytes"),
            uplink_bytes=uplink_bytes,
            slices={name: _slice_result(found) for name, found in self.slices.items()},
        )

    def _text(self, code: int) -> str:
        n_blocks = len(self.way.device.info.blocks)
        return structure_text([code >> index & 1 for index in range(n_blocks)])

    def _violations(self) -> int:
        """Cases whose structure is over a limit of the profile, or not among those it holds."""
        device = self.way.device
        return sum(
            n
            for code, n in self.counts.items()
            if not device.costs[code].fits(device.profile) or code not in device.info.allowed
        )

    def _spread(self, name: str) -> dict[str, float]:
        """Mean and 95th percentile (the smallest value that 95 % do not exceed)."""
        if not self.counts:
            return {}
        costs = [(getattr(self.way.device.costs[code], name), n) for code, n in self.counts.items()]
        total, below = sum(n for _, n in costs), 0
        mean = sum(cost * n for cost, n in costs) / total
        for cost, n in sorted(costs):
            below += n
            if below >= 0.95 * total:
                return {"mean": mean, "p95": cost}
        raise AssertionError("unreachable")


def standard_errors(found: Means, metrics: Iterable[str]) -> dict[str, float]:
    """By name; nothing of fewer than two cases."""
    errors = {name: found.standard_error(name) for name in metrics}
    return {name: error for name, error in errors.items() if error is not None}


def _slice_result(found: Means) -> SliceResult:
    means = found.plain()
    keep_rate = means.pop("keep_rate", None)
    return SliceResult(found.n, means, keep_rate)
