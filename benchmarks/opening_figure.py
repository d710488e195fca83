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
        figure.tight_layout()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def _draw(panel: Any, models: dict[str, list[dict[str, Any]]]) -> None:
    everybodys = [_macs(model, lines, models) / 1e6 for model, lines in models.items()]
    for number, (model, lines) in enumerate(models.items()):
        colour, marker = next(style for kind, style in KINDS.items() if model.startswith(kind))
        values = [line["ndcg@10"] for line in lines]
        error = stdev(values) if len(values) > 1 else None
        macs = _macs(model, lines, models) / 1e6
        panel.errorbar(macs, mean(values), error, color=colour, marker=marker, capsize=2)
        place = (5, -9 if number % 2 else 4)  # neighbours do not cover each other's name
        panel.annotate(model, (macs, mean(values)), place, textcoords="offset points", fontsize=6.5)
    panel.set_xlabel("million MACs a request")
    panel.set_ylabel("test NDCG@10, all items")
    panel.set_xlim(0, 1.55 * max(everybodys))
    low, high = panel.get_ylim()
    panel.set_ylim(0.93 * low, 1.07 * high)  # so that a small difference looks small


def _macs(model: str, lines: list[dict[str, Any]], models: dict[str, Any]) -> float:
    """RecBole's SASRec is the static network; DUET is too, and has two layers of its own."""
    if "mean_macs" in lines[0]:
        return mean(line["mean_macs"] for line in lines)
    input_words = model.partition(", ")[2].split(",")[0]
    static = "static backbone" + (f", {input_words}" if input_words.startswith("input") else "")
    own = HEAD_MACS if model.startswith("DUET") else 0
    return float(models[static][0]["mean_macs"]) + own
