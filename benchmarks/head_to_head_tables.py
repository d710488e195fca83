"""Tables of ``head_to_head`` and ``significance``: one for each data set, one for each study.

python benchmarks/head_to_head_tables.py    # prints those of the data sets
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import Any

from record import read_lines
from table import Line, grouped, of_last, origin, seeds_of, spread, table

from recbole_fofa.evaluator.compare import holm

REPLACED_PLANS = ("amazon-beauty", "ml-100k-tuned")
"""Their lines are kept; other settings are shown, for all models of the data set."""
STUDIES = {
    "ablations": ("ml-100k", ("ForwardOFA, input 20, adapts on 200",)),
    "adapt-length": (
        "ml-1m",
        ("ForwardOFA, input 20, adapts on 200", "static backbone, repeat bias"),
    ),
}
"""Plans with a table of their own: the data set, and which models of its main table stand beside
theirs. All are compared with the first of these."""
OURS = ("ForwardOFA, input 20, adapts on 200", "ForwardOFA, input 20")
"""What others are tested against; of a data set that has both the first."""
_HEAD = (
    "{} | seeds | valid NDCG@10 | test NDCG@10 | history left out | 1 + 99 | Hit@10 | "
    "M MACs a request | payload"
)


def head_to_head() -> str:
    """Each data set's table and the differences with their p."""
    parts = [
        f"### {dataset}\n\n{_models_of(dataset, models)}"
        for dataset, models in latest_by_dataset().items()
    ]
    return "\n\n".join(part for part in (*parts, failures()) if part)


def study(name: str) -> str:
    """The table of one of :data:`STUDIES`, the differences with their p, and their origin."""
    models = latest_by_dataset(name).get(STUDIES[name][0], {})
    lines = [line for own in models.values() for line in own if plan_of(line) == name]
    if not lines:
        return "Not run."
    return f"{_models_of(STUDIES[name][0], models, name)}\n\n{_origin(lines)}"


def _models_of(dataset: str, models: dict[str, list[Line]], study: str | None = None) -> str:
    rows = [[model, *_row(own)] for model, own in models.items()]
    parts = [table(_HEAD.format(dataset), rows), significance(dataset, study)]
    return "\n\n".join(part for part in parts if part)


def origins() -> str:
    """Where the lines of the tables came from."""
    return _origin([line for own in latest_models().values() for line in own])


def _origin(lines: list[Line]) -> str:
    """As :func:`origin`, but with whole plans; their runs were started one by one."""
    runs = "python benchmarks/head_to_head.py benchmarks/plans/{}.yaml --threads {}".format
    whole = [line | {"command": runs(plan_of(line), line["threads"])} for line in lines]
    return (
        f"{origin(whole)} `--datasets`, `--models` and `--seeds` choose among a plan's runs; those "
        "with a line are finished, and are done anew with `BENCH_RESULTS=FOLDER/results` in front."
    )


def latest_by_dataset(study: str | None = None) -> dict[str, dict[str, list[Line]]]:
    """Lines of :func:`latest_models` by data set, then by model."""
    found: dict[str, dict[str, list[Line]]] = {}
    for (dataset, model), lines in latest_models(study).items():
        found.setdefault(dataset, {})[model] = lines
    return found


def latest_models(study: str | None = None) -> dict[tuple[str, str], list[Line]]:
    """Lines of each data set and model, of the settings that were run last.

    Args:
        study: One of :data:`STUDIES`, whose models and their reference alone are wanted; if not
            given, all others.
    """
    lines = [
        line for line in read_lines("head_to_head") if "failed" not in line and _is_of(line, study)
    ]

    def key(line: Line) -> tuple[str, str]:
        return line["dataset"], line["model"]

    return grouped(of_last("settings_hash", lines, key), key)


def plan_of(line: Line) -> str:
    """Name of the plan that a line is of; older lines have it in their command alone."""
    if "plan" in line:
        return str(line["plan"])
    (plan,) = (word for word in shlex.split(line["command"]) if word.endswith(".yaml"))
    return Path(plan).stem


def _is_of(line: Line, study: str | None) -> bool:
    if study is None:
        return plan_of(line) not in (*REPLACED_PLANS, *STUDIES)
    dataset, beside = STUDIES[study]
    return plan_of(line) == study or (line["dataset"] == dataset and line["model"] in beside)


def searches() -> str:
    """What each model's search chose, and from what; the latest of each."""
    latest = {(line["dataset"], line["model"]): line for line in read_lines("tuning")}
    rows = [
        [
            dataset,
            model,
            f"{line['trials']} ({line['stopped_early']})",
            f"{line['first_score']:.4f}",
            f"{line['score']:.4f}",
            ", ".join(f"`{name}` {_short(value)}" for name, value in line["chosen"].items()),
        ]
        for (dataset, model), line in latest.items()
    ]
    head = "data | model | trials (stopped early) | as given | best | chosen"
    return f"{table(head, rows)}\n\n{origin(list(latest.values()))}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _row(own: list[Line]) -> list[str]:
    flat = [
        {
            "valid": line["valid"]["ndcg@10"],
            "masked": line["protocols"]["masked"]["ndcg@10"],
            "uni99": line["protocols"]["uni99"]["ndcg@10"],
        }
        for line in own
    ]
    macs, payload = (_mean(own, name) for name in ("mean_macs", "payload_bytes"))
    return [
        seeds_of(own),
        spread(flat, "valid"),
        spread(own, "ndcg@10"),
        spread(flat, "masked"),
        spread(flat, "uni99"),
        spread(own, "hit@10"),
        "-" if macs is None else f"{macs / 1e6:.2f} ({_mean(own, 'macs_share') or 0:.0%})",
        "-" if payload is None else f"{payload / 1000:.1f} KB",
    ]


def _mean(own: list[Line], name: str) -> float | None:
    values = [line[name] for line in own if name in line]
    return mean(values) if values else None


def hashes(shown: dict[str, list[Line]], models: Iterable[str | None]) -> list[str | None]:
    """Of the settings of these models' lines; ``None`` for a model that has none."""
    return [shown[model][0]["settings_hash"] if model in shown else None for model in models]


def ours_of(models: Iterable[str]) -> str | None:
    """Of a data set's models the one that others are tested against; ``None`` without one."""
    return next((name for name in OURS if name in models), None)


def latest_tests(dataset: str, study: str | None = None) -> dict[tuple[str, str], Line]:
    """By protocol and model, what the latest test of ours on this data set or study found.

    Tests of runs with other settings than those that are shown are left out. Holm's correction is
    for all models of a protocol that are left, whether they were tested at once or not.
    """
    shown = latest_by_dataset(study).get(dataset, {})
    ours = ours_of(shown)
    latest = {
        (line["protocol"], line["name"]): line
        for line in read_lines("significance")
        if line["dataset"] == dataset and line.get("study") == study
        if line["reference_model"] == ours
        and line.get("settings_hashes") == hashes(shown, (ours, line["name"]))
    }
    for protocol in {protocol for protocol, _ in latest}:
        keys = [key for key in latest if key[0] == protocol]
        for key, p in zip(keys, holm([latest[key]["p"] for key in keys]), strict=True):
            latest[key] = latest[key] | {"p_holm": p}
    return latest


def significance(dataset: str, study: str | None = None) -> str:
    """A model against each other one, by the latest tests on this data set or study."""
    latest = dict(sorted(latest_tests(dataset, study).items(), key=lambda one: one[0][0]))
    rows = [
        [
            protocol,
            name,
            ", ".join(map(str, line["seeds"])),
            line["n_users"],
            f"{line['difference']:+.4f} ({line['difference'] / line['reference']:+.1%})",
            f"{line['low']:+.4f} to {line['high']:+.4f}",
            f"{line['p_holm']:.2g}",
        ]
        for (protocol, name), line in latest.items()
    ]
    if not rows:
        return ""
    reference = next(iter(latest.values()))["reference_model"]
    head = f"ranked | {reference}, against | seeds | users | NDCG@10 | 95 % interval | p (Holm)"
    commands = "\n".join(dict.fromkeys(one["command"] for one in latest.values()))
    return f"{table(head, rows)}\n\n```bash\n{commands}\n```"


def failures() -> str:
    """Runs that failed, with their reason, unless they were made good."""
    latest = {
        (line["dataset"], line["model"], line["seed"]): line for line in read_lines("head_to_head")
    }
    rows = [[*key, line["failed"]] for key, line in latest.items() if "failed" in line]
    return table("data | model | seed | failed", rows) if rows else ""


if __name__ == "__main__":
    print(f"{head_to_head()}\n\n{origins()}")
