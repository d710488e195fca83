"""Tables of training from the lines in ``results/``; each public function is one."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from record import read_lines
from table import Line, grouped, of_last, seeds_of, spread, table


def runs(threads: int) -> list[Line]:
    """Runs of ``ml100k_accuracy`` with a number of threads, the latest of each model and seed."""
    chosen = [line for line in read_lines("ml100k_accuracy") if line["threads"] == threads]
    groups = grouped(chosen, lambda line: line["model"])
    return [line for group in groups.values() for line in group]


def accuracy() -> str:
    """ml-100k: ours and DUET; on other backbones in a table of its own."""
    return _accuracy_rows([line for line in runs(1) if not other_backbone(line)])


def stock() -> str:
    """ml-100k: RecBole alone."""
    return _accuracy_rows(read_lines("stock_recbole"))


def backbones() -> str:
    """ml-100k: the other backbones."""
    return _accuracy_rows([line for line in runs(1) if other_backbone(line)])


def other_backbone(line: Line) -> bool:
    """Whether a run is one of the other backbones'."""
    return "--backbone" in line["run"]


def _accuracy_rows(lines: Sequence[Line]) -> str:
    names = ("valid_ndcg@10", "test_ndcg@10", "test_hit@10", "test_mrr@10")
    return table(
        "ml-100k | seeds | valid NDCG@10 | test NDCG@10 | Hit@10 | MRR@10 | blocks' MACs",
        [
            [
                model,
                seeds_of(group),
                *(spread(group, name) for name in names),
                f"{mean(line.get('mean_macs_share', 1.0) for line in group):.0%}",
            ]
            for model, group in grouped(lines, lambda line: line["model"]).items()
        ],
    )


def structures(threads: int) -> str:
    """Keep rate per block and users of each structure, one row per seed."""
    return table(
        "seed | seconds | keep rate per block | users of each structure",
        [
            [
                line["seed"],
                f"{line['seconds']:.0f}",
                ", ".join(f"{rate:.2f}" for rate in line["keep_rate"]),
                ", ".join(f"{name}: {count}" for name, count in line["structures"].items()),
            ]
            for line in runs(threads)
            if line["model"] == "ForwardOFA"
        ],
    )


def speed() -> str:
    """Seconds per epoch of the latest side-by-side run."""
    lines = read_lines("speed")[-4:]
    slowest = lines[0]["seconds_per_epoch"]
    return table(
        "ml-100k | steps an epoch | s an epoch | first row / this | this / static",
        [
            [
                line["way"],
                line["steps_per_epoch"],
                f"{line['seconds_per_epoch']:.1f}",
                f"{slowest / line['seconds_per_epoch']:.1f}",
                f"{line['ratio_to_static']:.2f}",
            ]
            for line in lines
        ],
    )


def time_to_quality() -> str:
    """Time to stock SASRec's best validation score, a table for each data set."""
    by_dataset: dict[str, list[Line]] = {}
    for line in read_lines("time_to_quality"):
        by_dataset.setdefault(line["dataset"], []).append(line)
    whole = {name: found for name, found in by_dataset.items() if found[-1]["way"] == "stock"}
    return "\n\n".join(_time_to_quality(*found) for found in whole.items())


def _time_to_quality(dataset: str, found: Sequence[Line]) -> str:
    """Stock's own time is the yardstick."""
    # Side by side means at one commit: what an earlier run has timed is no row of a later one.
    commits = {line["seed"]: line["commit"] for line in found if line["way"] == "stock"}
    together = [line for line in found if line["commit"] == commits.get(line["seed"])]
    groups = grouped(together, lambda line: (line["way"], line.get("anomaly_mode")))
    names = {("stock", True): "RecBole SASRec, as it is", ("stock", False): "without anomaly mode"}

    def average(lines: Sequence[Line], name: str) -> float:
        return mean(line[name] for line in lines)

    def ratio(anomaly_mode: bool, lines: Sequence[Line]) -> str:
        if not all(line["reached"] for line in lines):
            return "-"
        stock = average(groups["stock", anomaly_mode], "seconds")
        return f"{stock / average(lines, 'seconds'):.1f}"

    return table(
        f"{dataset} | seeds | there | epochs | s an epoch | s | as it is / this | without / this",
        [
            [
                names.get((way, mode), way),
                seeds_of(lines),
                f"{sum(line['reached'] for line in lines)} of {len(lines)}",
                f"{average(lines, 'epochs'):.1f}",
                f"{average(lines, 'seconds_per_epoch'):.1f}",
                f"{average(lines, 'seconds'):.0f}",
                ratio(True, lines),
                ratio(False, lines),
            ]
            for (way, mode), lines in groups.items()
        ],
    )


def budgets() -> str:
    """One trained model at several budgets, and a static network of each depth."""
    by_budget = grouped(budget_lines(), lambda x: (x["budget"], x["model"]))
    kinds = {
        "one ForwardOFA": "ForwardOFA",
        "its structures shuffled": "ForwardOFA, structures shuffled over all users",
    }
    rows = []
    for budget in sorted({budget for budget, _ in by_budget}):
        found = {model: lines for (share, model), lines in by_budget.items() if share == budget}
        (static,) = (lines for model, lines in found.items() if model.startswith("static"))
        ours = found[kinds["one ForwardOFA"]]
        rows.append(
            [
                f"{budget:.0%}",
                f"{mean(line['mean_macs'] for line in ours):,.0f}",
                spread(ours, "ndcg@10"),
                _spread_or_none(found.get(kinds["its structures shuffled"])),
                f"{mean(line['mean_macs'] for line in static):,.0f}",
                spread(static, "ndcg@10"),
                f"{spread(ours, 'valid_ndcg@10')} / {spread(static, 'valid_ndcg@10')}",
                ", ".join(str(len(line["structures"])) for line in ours),
            ]
        )
    return table(
        "budget | MACs | ForwardOFA, one model | the same, structures shuffled | static MACs | "
        "static, trained alone | valid, both | structures",
        rows,
    )


def _spread_or_none(lines: list[Line] | None) -> str:
    return spread(lines, "ndcg@10") if lines else "-"


def budget_lines() -> list[Line]:
    """Lines of ``budget_curve``, each model's of the settings that were run last."""
    return of_last("settings_hash", read_lines("budget_curve"), lambda x: (x["budget"], x["model"]))


def conflict() -> str:
    """Cosines of gradients, weighted by the number of pairs."""
    lines = of_last("commit", read_lines("gradient_conflict"), lambda x: (x["way"], x["seed"]))
    groups: dict[Any, list[Line]] = {}
    for line in lines:
        groups.setdefault((line["way"], line["holder"], line["pairs"]), []).append(line)
    rows = []
    for (way, holder, pairs), lines in groups.items():
        n_pairs = sum(line["n_pairs"] for line in lines)
        cosine, negative = (
            sum(line["n_pairs"] * line[name] for line in lines) / n_pairs
            for name in ("mean_cosine", "negative_share")
        )
        rows.append([way, holder, pairs, n_pairs, f"{cosine:.3f}", f"{negative:.1%}"])
    return table("parameters | gradient at | pairs of groups | pairs | mean cosine | below 0", rows)
