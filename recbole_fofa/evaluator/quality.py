"""RecBole's metrics for each case, from ranks alone, and their running means."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.register import metrics_dict

from recbole_fofa.errors import ConfigError

Values = dict[str, NDArray[np.float64]]


class CaseMetrics:
    """RecBole's own top-k metrics, for cases of one relevant item.

    Args:
        names: As in RecBole's ``metrics``; those that are no means over cases are left out.
        topk: As in RecBole's ``topk``.

    Raises:
        ConfigError: If none is left.
    """

    def __init__(self, names: Sequence[str], topk: Sequence[int]) -> None:
        self.topk = sorted(set(topk))
        settings = {"topk": self.topk, "metric_decimal_place": 16}
        kinds = {name.lower(): metrics_dict[name.lower()] for name in names}
        self._metrics: dict[str, Any] = {
            name: kind(settings) for name, kind in kinds.items() if issubclass(kind, TopkMetric)
        }
        self._needs_counts = {
            name: len(inspect.signature(metric.metric_info).parameters) > 1
            for name, metric in self._metrics.items()
        }
        if not self._metrics:
            raise ConfigError(
                f"none of the metrics ({', '.join(names)}) has values of single users: add NDCG, "
                "Hit, MRR, Recall, Precision or MAP to metrics"
            )

    @property
    def names(self) -> list[str]:
        """Such as ``ndcg@10``, as in RecBole's results."""
        return [f"{name}@{k}" for name in self._metrics for k in self.topk]

    def values(self, ranks: NDArray[np.int64]) -> Values:
        """Each metric of each case, ``[B]``, unrounded.

        Args:
            ranks: From 1, ``[B]``; 0 for a target that is not ranked, which counts as a miss.
        """
        hits = ranks[:, None] == np.arange(1, self.topk[-1] + 1)
        counts = np.ones(len(ranks), dtype=np.int64)
        found: Values = {}
        for name, metric in self._metrics.items():
            needed = (hits, counts) if self._needs_counts[name] else (hits,)
            table = metric.metric_info(*needed)
            for k in self.topk:
                found[f"{name}@{k}"] = table[:, k - 1].astype(np.float64)
        return found


class Means:
    """Running means of some cases; memory does not grow with their number."""

    def __init__(self) -> None:
        self.n = 0
        self._sums: dict[str, Any] = {}
        self._squares: dict[str, Any] = {}

    def add(self, values: Mapping[str, Any], chosen: NDArray[np.bool_] | None = None) -> None:
        """Add cases: ``[B]`` or ``[B, ...]`` by name; with a mask only those that it chooses."""
        rows = slice(None) if chosen is None else chosen
        for name, value in values.items():
            own = value[rows].astype(np.float64)
            self._sums[name] = self._sums.get(name, 0.0) + own.sum(0)
            self._squares[name] = self._squares.get(name, 0.0) + np.square(own).sum(0)
        self.n += len(next(iter(values.values()))[rows])

    def plain(self) -> dict[str, Any]:
        """Mean by name, as JSON can hold it; nothing of no cases."""
        if self.n == 0:
            return {}
        return {name: (total / self.n).tolist() for name, total in self._sums.items()}

    def standard_error(self, name: str) -> float | None:
        """Of a mean of plain numbers; ``None`` for fewer than two cases."""
        if self.n < 2:
            return None
        mean = self._sums[name] / self.n
        variance = max(0.0, self._squares[name] / self.n - mean * mean)
        return float(np.sqrt(variance / (self.n - 1)))
