"""The README's figure: accuracy against compute, from the lines of ``head_to_head``."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev
from typing import Any

from head_to_head_tables import latest_by_dataset

KINDS = {
    "ForwardOFA": ("C0", "o"),
    "static": ("C7", "s"),
    "DUET": ("C1", "^"),
    "RecBole": ("C3", "D"),
}
COLUMNS = 2
FONT_SIZE = 6.5
LETTER, LINE = 0.55 * FONT_SIZE, 1.15 * FONT_SIZE
"""Of names in the figure, in points: width of a letter, distance of lines."""
HEAD_MACS = 2 * 64 * 64
"""Of DUET's two generated layers, at the one position that is scored."""


def write_figure(path: Path) -> None:
    """One panel for each data set: test NDCG@10, means and standard deviations over seeds."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    found = latest_by_dataset()
    datasets = [dataset for dataset, models in found.items() if "static backbone" in models]
    with pyplot.rc_context({"svg.hashsalt": "fixed", "font.size": 9}):
        n_rows = -(-len(datasets) // COLUMNS)
        figure, panels = pyplot.subplots(
            n_rows, COLUMNS, figsize=(5.2 * COLUMNS, 3.4 * n_rows), squeeze=False
        )
        for panel in panels.flat[len(datasets) :]:
            panel.set_axis_off()
        for dataset, panel in zip(datasets, panels.flat, strict=False):
            _draw(panel, found[dataset])
            panel.set_title(dataset)
        figure.tight_layout()  # names come after it: their places depend on the panels'
        for dataset, panel in zip(datasets, panels.flat, strict=False):
            _name_points(panel, found[dataset])
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def _draw(panel: Any, models: dict[str, list[dict[str, Any]]]) -> None:
    everybodys = [_macs(model, lines, models) / 1e6 for model, lines in models.items()]
    for macs, (model, lines) in zip(everybodys, models.items(), strict=True):
        colour, marker = next(style for kind, style in KINDS.items() if model.startswith(kind))
        error = stdev(line["ndcg@10"] for line in lines) if len(lines) > 1 else None
        panel.errorbar(macs, _score(lines), error, color=colour, marker=marker, capsize=2)
    panel.set_xlabel("million MACs a request")
    panel.set_ylabel("test NDCG@10, all items")
    panel.set_xlim(0, 1.55 * max(everybodys))
    low, high = panel.get_ylim()
    panel.set_ylim(0.93 * low, 1.07 * high)  # so that a small difference looks small


def _name_points(panel: Any, models: dict[str, list[dict[str, Any]]]) -> None:
    """Beside each point; from below, so that none covers another."""
    in_points = 72 / panel.figure.dpi
    taken: list[tuple[float, float, float]] = []
    for model, lines in sorted(models.items(), key=lambda one: _score(one[1])):
        at = (_macs(model, lines, models) / 1e6, _score(lines))
        left, height = in_points * panel.transData.transform(at)
        right, place = left + LETTER * len(model), height - 2.5
        for other_left, other_right, bottom in taken:
            if left < other_right and other_left < right:
                place = max(place, bottom + LINE)
        taken.append((left, right, place))
        panel.annotate(
            model, at, (5, place - height), textcoords="offset points", fontsize=FONT_SIZE
        )


def _score(lines: list[dict[str, Any]]) -> float:
    return mean(line["ndcg@10"] for line in lines)


def _macs(model: str, lines: list[dict[str, Any]], models: dict[str, Any]) -> float:
    """RecBole's SASRec is the static network; DUET is too, and has two layers of its own."""
    if "mean_macs" in lines[0]:
        return mean(line["mean_macs"] for line in lines)
    input_words = model.partition(", ")[2].split(",")[0]
    static = "static backbone" + (f", {input_words}" if input_words.startswith("input") else "")
    own = HEAD_MACS if model.startswith("DUET") else 0
    return float(models[static][0]["mean_macs"]) + own
