"""From cases to a row of the report, in sums that do not grow with the cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_fofa.device.payload import structure_text
from recbole_fofa.evaluator.device_class import Way
from recbole_fofa.evaluator.quality import Means, Values
from recbole_fofa.evaluator.result import Row, SliceResult


class GroupedMeans:
    """Running means over all cases and over groups of them."""

    def __init__(self) -> None:
        self._all = Means()
        self._groups: dict[str, Means] = {}

    def add(self, values: Mapping[str, np.ndarray], masks: Mapping[str, NDArray[np.bool_]]) -> None:
        """Add cases: metrics ``[B]``, perhaps ``keep_rate`` ``[B, L]``; groups by name."""
        self._all.add(values)
        for name, mask in masks.items():
            self._groups.setdefault(name, Means()).add(values, mask)

    def parts(self) -> dict[str, Any]:
        """What a :class:`Row` has of them, by name."""
        whole = _slice_result(self._all)
        errors = {name: self._all.standard_error(name) for name in whole.metrics}
        return {
            **vars(whole),
            "errors": {name: error for name, error in errors.items() if error is not None},
            "slices": {name: _slice_result(found) for name, found in self._groups.items()},
        }


@dataclass
class Tally:
    """Running sums of a row.

    Attributes:
        way: Of the row.
        means: Over all cases and groups of them.
        counts: Cases of each structure's code.
    """

    way: Way
    means: GroupedMeans = field(default_factory=GroupedMeans)
    counts: Counter[int] = field(default_factory=Counter)

    def add(
        self,
        structure: np.ndarray,
        codes: np.ndarray,
        values: Values,
        masks: Mapping[str, NDArray[np.bool_]],
    ) -> None:
        """Add cases: structures ``[B, L]`` and their codes, metrics ``[B]``, groups by name."""
        self.means.add({**values, "keep_rate": structure}, masks)
        self.counts.update(codes.tolist())

    def row(self, uplink_bytes: int) -> Row:
        """What the report shows."""
        return Row(
            way=self.way.name,
            profile=self.way.shown_profile,
            age=self.way.age,
            **self.means.parts(),
            counts={self._text(code): n for code, n in self.counts.most_common()},
            violations=self._violations(),
            macs=self._spread("macs"),
            full_macs=self.way.device.costs[-1].macs,
            payload_bytes=self._spread("payload_bytes"),
            memory_bytes=self._spread("memory_bytes"),
            uplink_bytes=uplink_bytes,
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


def _slice_result(found: Means) -> SliceResult:
    means = found.plain()
    keep_rate = means.pop("keep_rate", None)
    return SliceResult(found.n, means, keep_rate)
