"""Figures of a report (needs the extra ``plots``)."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from recbole_fofa.errors import ConfigError
from recbole_fofa.evaluator.report import main_metric
from recbole_fofa.evaluator.result import CHOSEN, SHUFFLED, DeviceReport, Row

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart by colour-blind readers (Okabe and Ito)."""


def has_matplotlib() -> bool:
    """Whether figures can be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def figures(report: DeviceReport) -> dict[str, str]:
    """Each figure as SVG by its name; those without data are left out.

    Raises:
        ConfigError: If matplotlib is missing.
    """
    if not has_matplotlib():
        raise ConfigError("figures need the extra: pip install 'recbole_fofa[plots]'")
    drawn = {
        "accuracy_against_macs": _accuracy(report),
        "staleness": _staleness(report),
        "structures_by_activity": _heat_map(report),
    }
    return {name: _svg(figure) for name, figure in drawn.items() if figure is not None}


def _accuracy(report: DeviceReport) -> Any:
    rows = [row for row in report.rows if row.macs]
    if not rows:
        return None
    metric = main_metric(report)
    figure, axes = _axes("M MACs of a request, mean over cases", metric)
    fixed = [row for row in rows if row.profile is None]
    axes.plot(*_points(fixed, metric), "s--", color="0.5", label="first k blocks for everybody")
    for way, style in ((CHOSEN, {}), (SHUFFLED, {"markerfacecolor": "none"})):
        own = sorted((r for r in rows if r.way == way), key=lambda r: r.macs["mean"])
        axes.plot(*_points(own, metric), "o", color=_COLOURS[0], markersize=8, label=way, **style)
        if way == CHOSEN:
            errors = [row.errors.get(metric, 0.0) for row in own]
            bars = {"color": _COLOURS[0], "capsize": 4, "label": "± one standard error"}
            axes.errorbar(*_points(own, metric), yerr=errors, fmt="none", **bars)
            _name_points(axes, own, metric)
    axes.margins(x=0.2, y=0.25)
    axes.set_xlim(left=0)
    axes.legend(frameon=False)
    return figure


def _points(rows: list[Row], metric: str) -> tuple[list[float], list[float]]:
    return [row.macs["mean"] / 1e6 for row in rows], [row.metrics[metric] for row in rows]


def _name_points(axes: Any, rows: list[Row], metric: str) -> None:
    """Profiles at one point share a label."""
    names: dict[tuple[float, float], list[str]] = {}
    for row in rows:
        point = (row.macs["mean"] / 1e6, row.metrics[metric])
        names.setdefault(point, []).append(str(row.profile))
    for point, own in names.items():
        axes.annotate(", ".join(own), point, textcoords="offset points", xytext=(7, 7), ha="left")


def _staleness(report: DeviceReport) -> Any:
    rows = [row for row in report.staleness if row.metrics]
    if not rows:
        return None
    metric = main_metric(report)
    figure, axes = _axes("interactions since the payload was made", metric)
    # Profiles that give equal curves are drawn wide below narrow, so that all are seen.
    profiles = list(dict.fromkeys(row.profile for row in rows))
    for number, profile in enumerate(profiles):
        own = [row for row in rows if row.profile == profile]
        axes.plot(
            [row.age for row in own],
            [row.metrics[metric] for row in own],
            "o-",
            color=_COLOURS[number % len(_COLOURS)],
            linewidth=1.5 + 2 * (len(profiles) - 1 - number),
            label=f"profile {profile} ({own[0].n} cases)",
        )
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def _heat_map(report: DeviceReport) -> Any:
    rows = [row for row in report.rows if row.way == CHOSEN and row.slices]
    if not rows:
        return None
    from matplotlib.figure import Figure

    groups = [name for name in rows[0].slices if name.startswith("activity")]
    figure = Figure(figsize=(1.6 + 2.2 * len(rows), 3.2), layout="constrained")
    all_axes = figure.subplots(1, len(rows), squeeze=False, sharey=True)[0]
    for axes, row in zip(all_axes, rows, strict=True):
        n_blocks = len(row.keep_rate or [])
        empty = [np.nan] * n_blocks
        table = np.array([row.slices[name].keep_rate or empty for name in groups])
        image = axes.imshow(table, vmin=0, vmax=1, cmap="cividis", aspect="auto")
        for (y, x), rate in np.ndenumerate(table):
            shade = "black" if rate > 0.5 else "white"
            axes.text(x, y, f"{rate:.2f}", ha="center", va="center", color=shade)
        axes.set_title(str(row.profile))
        axes.set_xticks(range(n_blocks), [f"block {i}" for i in range(n_blocks)])
        axes.set_yticks(range(len(groups)), [name.split(": ")[1] for name in groups])
    all_axes[0].set_ylabel("by number of items")
    figure.colorbar(image, ax=all_axes, label="share that keeps the block")
    return figure


def _axes(x: str, y: str) -> tuple[Any, Any]:
    # Not pyplot: no window system is asked for, and no state is left behind.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> str:
    from matplotlib import rc_context

    buffer = io.StringIO()
    # Equal figures give equal files.
    with rc_context({"svg.hashsalt": "recbole_fofa", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
