"""A report's readable files: Markdown, figures, one HTML page."""

from __future__ import annotations

from pathlib import Path

from recbole_fofa.evaluator.figures import figures, has_matplotlib
from recbole_fofa.evaluator.page import page
from recbole_fofa.evaluator.report import markdown
from recbole_fofa.evaluator.result import DeviceReport
from recbole_fofa.whole_file import write_whole

PAGE, MARKDOWN = "report.html", "report.md"
NO_FIGURES = "no figures were drawn, they need the extra: pip install 'recbole_fofa[plots]'"


def publish(report: DeviceReport, folder: Path) -> list[str]:
    """Write ``report.md``, ``report.html`` and, with matplotlib, ``<figure>.svg``.

    Returns:
        Lines for the user: where the page is, and what is missing.
    """
    drawn = figures(report) if has_matplotlib() else {}
    for name, svg in drawn.items():
        write_whole(folder / f"{name}.svg", svg.encode())
    links = [f"{name}.svg" for name in drawn]
    write_whole(folder / MARKDOWN, markdown(report, links).encode())
    write_whole(folder / PAGE, page(report, drawn).encode())
    return [f"report: {folder / PAGE}", *([] if has_matplotlib() else [NO_FIGURES])]
