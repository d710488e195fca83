"""Paired comparisons of results: are differences more than chance?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from tabulate import tabulate

from recbole_fofa.errors import ConfigError, DataError
from recbole_fofa.evaluator.per_user import FILE, digest_of, per_user_values
from recbole_fofa.evaluator.report import main_metric
from recbole_fofa.evaluator.result import CHOSEN, DeviceReport, read_report

TESTS = ("permutation", "wilcoxon")
_N_PERMUTATIONS = 9999
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Operand:
    """A row of a result.

    Attributes:
        folder: Of the result.
        text: As it was given.
        report: What is in it.
        label: Of the row.
    """

    folder: Path
    text: str
    report: DeviceReport
    label: str

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.text}#{self.label}"


@dataclass(frozen=True)
class Comparison:
    """A row against the reference, over the users of both.

    Attributes:
        name: Of the row.
        n_users: Number of pairs.
        mean: Of the row, over users.
        reference: Mean of the reference.
        difference: ``mean - reference``.
        low: Lower end of the 95 % confidence interval of the difference (Student's t); ``None``
            for fewer than two users.
        high: Upper end.
        effect: Mean difference over its standard deviation (Cohen's d of paired values); ``None``
            if all differences are equal.
        p: Two-sided.
        p_holm: The same, corrected for the number of comparisons (Holm).
    """

    name: str
    n_users: int
    mean: float
    reference: float
    difference: float
    low: float | None
    high: float | None
    effect: float | None
    p: float
    p_holm: float


def operand(text: str) -> Operand:
    """From ``FOLDER`` or ``FOLDER#row``.

    Without a row it is the last profile's structures as chosen, or a model's only row.

    Raises:
        DataError: If the result cannot be read.
        ConfigError: If it has no such row.
    """
    path, label = text, ""
    if "#" in text and not Path(text).exists():  # a folder's own name may hold one
        path, _, label = text.rpartition("#")
    report = read_report(Path(path))
    labels = [row.label for row in report.rows]
    if not label:
        label = next((r.label for r in report.rows[::-1] if r.way == CHOSEN), labels[-1])
    if label not in labels:
        raise ConfigError(f"{path} has no row {label!r}: it has {', '.join(labels)}")
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    return Operand(folder, path, report, label)


def compare(
    operands: Sequence[Operand],
    metric: str | None = None,
    test: str = "permutation",
    seed: int = 0,
) -> list[Comparison]:
    """Compare each operand with the first one, user by user.

    Args:
        operands: Two or more.
        metric: Such as ``ndcg@10``; the first result's main metric if not given.
        test: ``permutation`` (signs of the differences, on their mean) or ``wilcoxon`` (signed
            ranks, zeros split).
        seed: Of the permutations.

    Raises:
        ConfigError: If there is only one, or what was ranked for whom differs; says what.
    """
    if len(operands) < 2:
        raise ConfigError("a comparison needs two or more results")
    faults = [fault for other in operands[1:] for fault in _differences(operands[0], other)]
    named = Counter((one.folder.resolve(), one.label) for one in operands)
    faults += [f"{path}#{label} is named {n} times" for (path, label), n in named.items() if n > 1]
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    metric = (metric or main_metric(operands[0].report)).lower()
    values = [_values(one, metric) for one in operands]
    others = [(one.name, own) for one, own in zip(operands[1:], values[1:], strict=True)]
    return compare_values(values[0], others, test, seed)


def _values(one: Operand, metric: str) -> dict[str, float]:
    path = one.folder / FILE
    if digest_of(path) != one.report.per_user:
        raise DataError(f"{path} is not that of the report.json beside it: run device-eval again")
    return per_user_values(path, one.label, metric)


def compare_values(
    reference: Mapping[str, float],
    others: Sequence[tuple[str, Mapping[str, float]]],
    test: str = "permutation",
    seed: int = 0,
) -> list[Comparison]:
    """Compare values of users with those of a reference.

    Args:
        reference: Value of each user.
        others: Name, and the same, of each other.
        test: As in :func:`compare`.
        seed: As in :func:`compare`.

    Raises:
        DataError: If users differ.
    """
    found = []
    users = sorted(reference)
    for name, own in others:
        if own.keys() != reference.keys():
            raise DataError(f"{name} has other users than the reference")
        pairs = np.array([[own[user], reference[user]] for user in users])
        found.append((name, pairs, _p_value(pairs[:, 0] - pairs[:, 1], test, seed)))
    corrected = holm([p for *_, p in found])
    return [_comparison(*one, p) for one, p in zip(found, corrected, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the given order."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def comparison_table(reference: Operand, found: Sequence[Comparison], metric: str) -> str:
    """For a terminal."""
    rows = [
        [
            one.name,
            one.n_users,
            f"{one.mean:.4f}",
            f"{one.reference:.4f}",
            f"{one.difference:+.4f}",
            f"{one.difference / one.reference:+.1%}" if one.reference else "-",
            "-" if one.low is None else f"{one.low:+.4f} to {one.high:+.4f}",
            "-" if one.effect is None else f"{one.effect:+.3f}",
            f"{one.p:.4g}",
            f"{one.p_holm:.4g}",
        ]
        for one in found
    ]
    headers = "row users mean reference difference relative 95%_interval effect p p_Holm".split()
    table = tabulate(rows, headers, disable_numparse=True)
    return f"{metric}, means over users, against {reference.name}\n{table}\n"


def _differences(first: Operand, other: Operand) -> list[str]:
    """In which points of the protocol two results differ."""
    ours, theirs = first.report.protocol, other.report.protocol
    return [
        f"{other.folder} is not comparable with {first.folder}: {key} is {theirs.get(key)!r} "
        f"there and {ours.get(key)!r} here"
        for key in sorted({*ours, *theirs} - {"metrics"})
        if ours.get(key) != theirs.get(key)
    ]


def _p_value(differences: np.ndarray, test: str, seed: int) -> float:
    if len(differences) < 2 or not differences.any():
        return 1.0  # of one user nothing can be said
    if test == "wilcoxon":
        return float(stats.wilcoxon(differences, zero_method="zsplit").pvalue)

    # Users without a difference have none whatever the sign.
    differences = differences[differences != 0]

    def total(values: np.ndarray, axis: int) -> Any:
        return values.sum(axis)

    if len(differences) < 2:
        return 1.0
    found = stats.permutation_test(
        (differences,),
        total,
        permutation_type="samples",
        vectorized=True,
        n_resamples=_N_PERMUTATIONS,
        batch=max(1, 500_000 // len(differences)),
        random_state=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def _comparison(name: str, pairs: np.ndarray, p: float, p_holm: float) -> Comparison:
    differences = pairs[:, 0] - pairs[:, 1]
    n, mean = len(differences), float(differences.mean())
    spread = float(differences.std(ddof=1)) if n > 1 else 0.0
    low = high = None
    if n > 1:
        half = stats.t.ppf((1 + _CONFIDENCE) / 2, n - 1) * spread / np.sqrt(n)
        low, high = float(mean - half), float(mean + half)
    own, reference = (float(value) for value in pairs.mean(0))
    is_constant = spread <= 1e-12 * max(abs(mean), 1e-300)
    effect = mean / spread if not is_constant else (0.0 if mean == 0 else None)
    return Comparison(name, n, own, reference, mean, low, high, effect, p, p_holm)
