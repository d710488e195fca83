"""Paired comparisons: known answers, and refusals of what is not alike."""

from __future__ import annotations

import csv
import gzip
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from test_device_report import plain_report

from recbole_fofa.errors import ConfigError, DataError
from recbole_fofa.evaluator.compare import compare, comparison_table, holm, operand
from recbole_fofa.evaluator.per_user import digest_of
from recbole_fofa.evaluator.result import DeviceReport


def result(
    folder: Path, values: list[float], report: DeviceReport | None = None, name: str = "SASRec"
) -> str:
    """A result folder of one row; user ``u<i>`` has the i-th value."""
    folder.mkdir(parents=True)
    with gzip.open(folder / "per_user.csv.gz", "wt", newline="") as file:
        lines = csv.writer(file)
        lines.writerow("row user target history_length rank structure hit@10 ndcg@10".split())
        for number, value in enumerate(values):
            lines.writerow([name, f"u{number}", "i", 3, 1, "", 0, repr(value)])
    sign(folder, report or plain_report())
    return str(folder)


def sign(folder: Path, report: DeviceReport) -> None:
    """Write the report of the per-user values that are there."""
    digest = digest_of(folder / "per_user.csv.gz")
    replace(report, per_user=digest).write(folder / "report.json")


def test_holm_by_hand() -> None:
    # Sorted .01 .02 .03 .04, times 4 3 2 1: .04 .06 .06 .04, never falling.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("test", ["permutation", "wilcoxon"])
def test_known_numbers(tmp_path: Path, test: str) -> None:
    random = np.random.default_rng(0)
    base = random.random(200)
    better, same = base + random.normal(0.05, 0.1, 200), base + random.normal(0, 0.1, 200)
    texts = [
        result(tmp_path / name, values.tolist())
        for name, values in (("base", base), ("better", better), ("same", same))
    ]
    first, second = compare([operand(text) for text in texts], "ndcg@10", test)
    assert first.n_users == 200
    assert first.difference == pytest.approx((better - base).mean())
    interval = stats.ttest_rel(better, base).confidence_interval()
    assert (first.low, first.high) == pytest.approx((interval.low, interval.high))
    assert first.effect == pytest.approx((better - base).mean() / (better - base).std(ddof=1))
    assert first.p < 0.001 and second.p > 0.05
    assert first.p_holm == pytest.approx(2 * first.p) and second.p_holm == second.p
    if test == "wilcoxon":
        assert first.p == stats.wilcoxon(better - base, zero_method="zsplit").pvalue
    table = comparison_table(operand(texts[0]), [first, second], "ndcg@10")
    assert "base#SASRec" in table and "better#SASRec" in table


def test_equal_results_and_one_user(tmp_path: Path) -> None:
    texts = [result(tmp_path / name, [0.5, 0.25, 0.0]) for name in "ab"]
    (found,) = compare([operand(text) for text in texts], "ndcg@10")
    assert (found.difference, found.p, found.effect) == (0.0, 1.0, 0.0)
    texts = [result(tmp_path / name, [value]) for name, value in (("c", 0.5), ("d", 1.0))]
    (found,) = compare([operand(text) for text in texts], "ndcg@10")
    assert (found.n_users, found.low, found.high, found.p) == (1, None, None, 1.0)


def test_users_of_several_cases_count_once(tmp_path: Path) -> None:
    one, other = (result(tmp_path / name, [0.2, 0.4]) for name in "ab")
    with gzip.open(Path(other) / "per_user.csv.gz", "at", newline="") as file:
        file.write("SASRec,u0,i,3,1,,0,0.8\n")
    sign(Path(other), plain_report())
    (found,) = compare([operand(one), operand(other)], "ndcg@10")
    assert found.n_users == 2 and found.mean == pytest.approx((0.5 + 0.4) / 2)


def test_what_is_not_alike_is_refused(tmp_path: Path) -> None:
    report = plain_report()
    changes = {
        "mask_history": True,
        "candidates": {"kind": "uni99", "digest": "x"},
        "cases": "1" * 16,
        "split": {"split": {"RS": [0.8, 0.1, 0.1]}},
    }
    base = result(tmp_path / "base", [0.1, 0.2], report)
    for key, value in changes.items():
        other = replace(report, protocol={**report.protocol, key: value})
        text = result(tmp_path / key, [0.1, 0.2], other)
        with pytest.raises(ConfigError, match=f"not comparable with .*: {key} is"):
            compare([operand(base), operand(text)])
    everything = replace(report, protocol={**report.protocol, **changes})
    text = result(tmp_path / "all", [0.1, 0.2], everything)
    with pytest.raises(ConfigError) as caught:
        compare([operand(base), operand(text)])
    assert len(caught.value.faults) == len(changes)


def test_other_metrics_beside_are_no_hindrance(tmp_path: Path) -> None:
    report = plain_report()
    more = replace(report, protocol={**report.protocol, "metrics": ["ndcg@10", "mrr@10"]})
    texts = [result(tmp_path / "a", [0.1, 0.2]), result(tmp_path / "b", [0.1, 0.2], more)]
    assert compare([operand(text) for text in texts], "ndcg@10")[0].p == 1.0
    with pytest.raises(DataError, match="no metric 'mrr@10': it has hit@10, ndcg@10"):
        compare([operand(text) for text in texts], "mrr@10")


def test_faulty_results_are_told(tmp_path: Path) -> None:
    text = result(tmp_path / "a", [0.1, 0.2])
    with pytest.raises(ConfigError, match="two or more"):
        compare([operand(text)])
    with pytest.raises(ConfigError, match="has no row 'low': it has SASRec"):
        operand(f"{text}#low")
    with pytest.raises(DataError, match="is no report"):
        operand(str(tmp_path / "nothing"))
    other = result(tmp_path / "b", [0.1, 0.2, 0.3])
    with pytest.raises(DataError, match="has other users"):
        compare([operand(text), operand(other)])
    path = Path(other) / "per_user.csv.gz"
    data = path.read_bytes()
    for damaged in (data[:-20], data[:-20] + b"12345678" * 2):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="is not that of the report"):
            compare([operand(text), operand(other)])
        sign(path.parent, plain_report())
        with pytest.raises(DataError, match=r"per_user\.csv\.gz cannot be read"):
            compare([operand(text), operand(other)])


def test_values_of_another_run_are_refused(tmp_path: Path) -> None:
    one, other = (result(tmp_path / name, [0.1, value]) for name, value in (("a", 0.2), ("b", 0.9)))
    (Path(one) / "per_user.csv.gz").write_bytes((Path(other) / "per_user.csv.gz").read_bytes())
    with pytest.raises(DataError, match=r"is not that of the report\.json beside it"):
        compare([operand(one), operand(other)])


def test_results_of_equal_folder_names_stay_apart(tmp_path: Path) -> None:
    texts = [result(tmp_path / f"{n}" / "dev", [0.1 * n, 0.2, 0.3 + n]) for n in range(4)]
    found = compare([operand(text) for text in texts], "NDCG@10")
    assert [one.name for one in found] == [f"{text}#SASRec" for text in texts[1:]]
    with pytest.raises(ConfigError, match="is named 2 times"):
        compare([operand(texts[0]), operand(texts[1]), operand(texts[1])])


def test_a_folder_may_have_a_hash_in_its_name(tmp_path: Path) -> None:
    text = result(tmp_path / "run#1", [0.1, 0.2])
    assert operand(text).folder == operand(f"{text}#SASRec").folder == tmp_path / "run#1"


@pytest.mark.parametrize("step", [1.0, 0.1])
def test_equal_differences_have_no_effect_size(tmp_path: Path, step: float) -> None:
    values = [0.1 * n for n in range(6)]
    texts = [result(tmp_path / "a", values), result(tmp_path / "b", [v + step for v in values])]
    (found,) = compare([operand(text) for text in texts], "ndcg@10")
    assert found.effect is None and found.p < 0.05
    assert "-" in comparison_table(operand(texts[0]), [found], "ndcg@10")


def test_results_are_compared_without_torch() -> None:
    """Its import takes longer than a comparison."""
    program = (
        "import sys\n"
        "import recbole_fofa.evaluator.compare, recbole_fofa.evaluator.report\n"
        "print(sorted({'torch', 'recbole', 'pandas'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
