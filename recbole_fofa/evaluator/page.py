"""A report as one HTML page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from recbole_fofa.evaluator.report import summary, tables, title
from recbole_fofa.evaluator.result import DeviceReport

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
p.note { color: #555; max-width: 60rem; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid #999; } td { border-bottom: 1px solid #ddd; }
figure { margin: 2rem 0; } figure svg { max-width: 100%; height: auto; }
"""
_CAPTIONS = {
    "accuracy_against_macs": "Accuracy against the MACs of a request.",
    "staleness": "Quality as payloads grow old.",
    "structures_by_activity": "Which blocks are kept, by quarter of activity.",
}


def page(report: DeviceReport, figures: Mapping[str, str]) -> str:
    """The page.

    Args:
        report: What is shown.
        figures: SVG texts by name.
    """
    heading = escape(title(report))
    parts = [f"<h1>{heading}</h1>", f"<p>{escape(summary(report))}</p>"]
    for table in tables(report):
        parts.append(
            f"<section><h2>{escape(table.title)}</h2><p class='note'>{escape(table.note)}</p>"
            f"<div class='wide'>{table.text('html')}</div></section>"
        )
    for name, svg in figures.items():
        caption = _CAPTIONS.get(name, name)
        parts.append(
            f"<figure id='{name}'>{_inline(svg)}<figcaption>{caption}</figcaption></figure>"
        )
    body = "\n".join(parts)
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{heading}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _inline(svg: str) -> str:
    """Without the XML declaration and the document type, which HTML does not have."""
    return svg[svg.index("<svg") :]
