"""Tables of a report, for the terminal, Markdown and the HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from recbole_fofa.evaluator.result import CHOSEN, DeviceReport, Row

_NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """A table, and a sentence on how to read it."""

    title: str
    note: str
    headers: list[str]
    rows: list[list[Any]]

    def text(self, form: str = "simple") -> str:
        """As ``tabulate`` writes it in a form such as ``simple``, ``github`` or ``html``."""
        return tabulate(self.rows, self.headers, tablefmt=form, disable_numparse=True)


def main_metric(report: DeviceReport) -> str:
    """The metric that epochs were chosen by, or the first one."""
    names: list[str] = report.protocol["metrics"]
    wanted = str(report.model["settings"].get("valid_metric", "")).lower()
    return wanted if wanted in names else names[0]


def summary(report: DeviceReport) -> str:
    """What was evaluated and how, in a sentence or two."""
    p = report.protocol
    candidates = p["candidates"]
    ranked = f"all {p['n_items']} items"
    if isinstance(candidates, dict):
        ranked = f"candidates {candidates['kind']} (seed {candidates['seed']}, digest "
        ranked += f"{candidates['digest']}, {candidates['recall']:.1%} of targets among them)"
    masked = "left out" if p["mask_history"] else "ranked too"
    return (
        f"{report.model['name']} on {p['dataset']}, {p['phase']} split {p['split']['split']}: "
        f"{p['n_cases']} cases of {p['n_users']} users; ranked: {ranked}; items of the history "
        f"are {masked}. Metrics are means over cases, computed in float32."
    )


def tables(report: DeviceReport) -> list[Table]:
    """All tables; those that would be empty are left out."""
    found = [_quality(report), _costs(report), _staleness(report), _slices(report)]
    return [table for table in found if table.rows]


def terminal(report: DeviceReport) -> str:
    """For a terminal."""
    parts = [f"{table.title}\n{table.text()}" for table in tables(report)]
    return "\n\n".join([summary(report), *parts]) + "\n"


def markdown(report: DeviceReport, figures: list[str] | None = None) -> str:
    """As a Markdown page with links to figures."""
    parts = [f"# {title(report)}", summary(report)]
    parts += [f"## {t.title}\n\n{t.note}\n\n{t.text('github')}" for t in tables(report)]
    parts += [f"![{name}]({name})" for name in figures or []]
    return "\n\n".join(parts) + "\n"


def title(report: DeviceReport) -> str:
    """A short heading."""
    return f"Device report: {report.model['name']} on {report.protocol['dataset']}"


def _quality(report: DeviceReport) -> Table:
    names = report.protocol["metrics"]
    return Table(
        "Quality",
        f"{_adaptation(report)} The last column is the standard error of {main_metric(report)} "
        "over cases.",
        ["profile", "structures", "cases", *names, "s.e."],
        [
            [
                *_who(row),
                row.n,
                *(_number(row.metrics.get(name)) for name in names),
                _number(row.errors.get(main_metric(report))),
            ]
            for row in report.rows
        ],
    )


def _adaptation(report: DeviceReport) -> str:
    """What the model adapts to a user, and what the rows are therefore."""
    chooses, generates = (report.model.get(name) for name in ("chooses", "generates"))
    if chooses is None:
        return "One network for all users."
    structures = (
        "Each profile's users get the structures that the controller chooses within its limits; "
        "shuffled over users, the same structures go to users they were not chosen for, at equal "
        "cost."
        if chooses
        else "This model chooses nothing: each profile's users get the largest structure that fits."
    )
    own = "Parameters are each user's own in every row."
    return f"{structures} {own if generates else 'All users share the parameters.'}"


def _costs(report: DeviceReport) -> Table:
    rows = []
    for row in report.rows:
        if row.keep_rate is None:
            continue
        ms = report.measured.get("request_ms", {}).get(row.label, {})
        rows.append(
            [
                *_who(row),
                " ".join(f"{rate:.2f}" for rate in row.keep_rate),
                len(row.counts),
                f"{row.share_of(1):.0%} / {row.share_of(0):.0%}",
                row.violations,
                f"{row.macs['mean'] / 1e6:.2f} / {row.macs['p95'] / 1e6:.2f}",
                f"{row.macs_share or 0:.0%}",
                f"{row.payload_bytes['mean']:.0f} / {row.payload_bytes['p95']:.0f}",
                row.uplink_bytes,
                f"{ms['p50']:.2f} / {ms['p95']:.2f}" if ms else _NOTHING,
            ]
        )
    return Table(
        "Structures and costs",
        "Keep rate of each block; MACs of a request at full input length without scores of items, "
        "mean / 95th percentile, and mean relative to all blocks; bytes down once a session, mean "
        "/ 95th percentile; bytes up; milliseconds of a request (assembled network, batch 1, 100 "
        f"items, {report.measured.get('torch_threads')} torch threads), p50 / p95. Devices cache "
        "the items that they rank and the user's recent ones. Rows without a profile are sized in "
        "fp32.",
        [
            "profile",
            "structures",
            "keep rates",
            "distinct",
            "all / none kept",
            "over limits",
            "M MACs",
            "of full",
            "bytes down",
            "bytes up",
            "ms",
        ],
        rows,
    )


def _staleness(report: DeviceReport) -> Table:
    metric = main_metric(report)
    profiles = list(dict.fromkeys(row.profile for row in report.staleness))
    ages = list(dict.fromkeys(row.age for row in report.staleness))
    values = {(row.profile, row.age): row.metrics.get(metric) for row in report.staleness}
    n = report.staleness[0].n if report.staleness else 0
    return Table(
        f"Staleness: {metric} by age of the payload",
        "Age is the number of interactions between the making of the payload and the request, "
        f"which reads the newest items. The same {n} cases at each age: those with a longer "
        "history.",
        ["profile", "cases", *(f"age {age}" for age in ages)],
        [[profile, n, *(_number(values[profile, age]) for age in ages)] for profile in profiles],
    )


def _slices(report: DeviceReport) -> Table:
    metric = main_metric(report)
    shown = [row for row in report.rows if row.way == CHOSEN or row.keep_rate is None]
    rows = []
    for name in shown[0].slices if shown else ():
        own = [row.slices[name] for row in shown]
        line: list[Any] = [name, own[0].n]
        for found in own:
            line.append(_number(found.metrics.get(metric)))
            if shown[0].keep_rate is not None:
                line.append(" ".join(f"{rate:.2f}" for rate in found.keep_rate or []) or _NOTHING)
        rows.append(line)
    headers = ["slice", "cases"]
    for row in shown:
        headers.append(f"{row.profile or row.way}: {metric}")
        headers += ["keep rates"] if row.keep_rate is not None else []
    return Table(
        "Slices",
        "Quarters of activity are of the evaluated cases, by their number of items before the "
        "target. A cold target is an item that training has never seen.",
        headers,
        rows,
    )


def _who(row: Row) -> list[str]:
    return [row.profile or _NOTHING, row.way]


def _number(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.4f}"
