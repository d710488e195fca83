"""What readers see of a report: tables, figures, a page that a browser shows."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recbole_fofa.errors import DataError
from recbole_fofa.evaluator import figures as figures_module
from recbole_fofa.evaluator import publish as publish_module
from recbole_fofa.evaluator.figures import figures
from recbole_fofa.evaluator.page import page
from recbole_fofa.evaluator.publish import publish
from recbole_fofa.evaluator.report import main_metric, markdown, tables, terminal
from recbole_fofa.evaluator.result import (
    CHOSEN,
    SHUFFLED,
    DeviceReport,
    Row,
    SliceResult,
    read_report,
)


def row(way: str, profile: str | None, ndcg: float, age: int = 0, **changes: Any) -> Row:
    values: dict[str, Any] = {
        "n": 10,
        "metrics": {"hit@10": 2 * ndcg, "ndcg@10": ndcg},
        "errors": {"hit@10": 0.02, "ndcg@10": 0.01},
        "keep_rate": [1.0, 0.4],
        "counts": {"10": 6, "11": 4},
        "violations": 0,
        "macs": {"mean": 1.4e6, "p95": 2.0e6},
        "full_macs": 2_000_000,
        "payload_bytes": {"mean": 1400.0, "p95": 2000},
        "memory_bytes": {"mean": 9e5, "p95": 9e5},
        "uplink_bytes": 290,
        "slices": {
            "activity: first quarter": SliceResult(
                10, {"hit@10": 0.5, "ndcg@10": 0.25}, [1.0, 0.4]
            ),
            "activity: second quarter": SliceResult(0, {}),
        },
    }
    return Row(way, profile, age, **{**values, **changes})


def small_report() -> DeviceReport:
    protocol = {
        "dataset": "ring <&> co",
        "split": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"},
        "phase": "test",
        "candidates": "full",
        "mask_history": False,
        "cases": "0" * 16,
        "n_cases": 10,
        "n_users": 10,
        "n_items": 30,
        "metrics": ["hit@10", "ndcg@10"],
    }
    rows = [row(CHOSEN, "low", 0.2), row(SHUFFLED, "low", 0.1), row(CHOSEN, "mid", 0.3)]
    fixed = [
        row("first 1 of 2 blocks for everybody", None, 0.15, macs={"mean": 1e6, "p95": 1e6}),
        row("all blocks for everybody", None, 0.25, macs={"mean": 2e6, "p95": 2e6}),
    ]
    stale = [row(CHOSEN, p, 0.2 - age / 100, age) for p in ("low", "mid") for age in (0, 5)]
    model = {"name": "ForwardOFA", "settings": {"valid_metric": "NDCG@10"}}
    model |= {"chooses": True, "generates": True}
    measured = {
        "torch_threads": 1,
        "request_ms": {one.label: {"p50": 0.5, "p95": 1.25} for one in rows},
    }
    return DeviceReport(protocol, model, [*rows, *fixed], stale, "", measured)


def plain_report() -> DeviceReport:
    """Of a model without structures."""
    report = small_report()
    one = Row("SASRec", None, 0, 10, {"hit@10": 0.5, "ndcg@10": 0.25})
    return replace(report, model={"name": "SASRec", "settings": {}}, rows=[one], staleness=[])


def test_tables_say_what_was_measured() -> None:
    report = small_report()
    by_title = {table.title.split(":")[0]: table for table in tables(report)}
    assert list(by_title) == ["Quality", "Structures and costs", "Staleness", "Slices"]
    assert by_title["Quality"].rows[0] == ["low", CHOSEN, 10, "0.4000", "0.2000", "0.0100"]
    costs = by_title["Structures and costs"].rows
    shown = ["1.00 0.40", 2, "40% / 0%", 0, "1.40 / 2.00", "70%", "1400 / 2000", 290, "0.50 / 1.25"]
    assert costs[0] == ["low", CHOSEN, *shown]
    assert costs[3][-1] == "-"  # nothing was measured for it
    assert by_title["Staleness"].rows == [
        ["low", 10, "0.2000", "0.1500"],
        ["mid", 10, "0.2000", "0.1500"],
    ]
    assert by_title["Slices"].rows[1] == ["activity: second quarter", 0, "-", "-", "-", "-"]
    text = terminal(report)
    assert "all 30 items" in text and "are ranked too" in text and "ndcg@10" in text


def test_the_metric_of_training_is_the_main_one() -> None:
    report = small_report()
    assert main_metric(report) == "ndcg@10"
    other = replace(report, model={"name": "x", "settings": {"valid_metric": "MRR@10"}})
    assert main_metric(other) == "hit@10"  # its own is not among those that were computed


def test_a_model_without_structures_has_no_columns_of_structures() -> None:
    found = tables(plain_report())
    assert [table.title for table in found] == ["Quality"]
    assert figures(plain_report()) == {}


def test_candidates_are_named() -> None:
    report = small_report()
    info = {"kind": "retrieval100", "seed": 3, "digest": "abc", "recall": 0.515}
    report.protocol["candidates"] = info
    report.protocol["mask_history"] = True
    text = markdown(report, ["staleness.svg"])
    assert "candidates retrieval100 (seed 3, digest abc, 51.5% of targets among them)" in text
    assert "are left out" in text and "![staleness.svg](staleness.svg)" in text


def test_reports_are_read_as_they_were_written(tmp_path: Path) -> None:
    report = small_report()
    report.write(tmp_path / "report.json")
    assert read_report(tmp_path) == report
    for text in (
        "",
        "[]",
        "{}",
        '{"version": 1, "protocol": [], "rows": [], "staleness": []}',
        '{"version": 9}',
        '{"version": 1, "rows": [1], "staleness": []}',
    ):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(DataError, match=r"report\.json is no report"):
            read_report(tmp_path)


def test_figures_are_equal_for_equal_reports() -> None:
    first, second = figures(small_report()), figures(small_report())
    assert first == second
    assert list(first) == ["accuracy_against_macs", "staleness", "structures_by_activity"]
    assert "M MACs of a request" in first["accuracy_against_macs"]
    assert "share that keeps the block" in first["structures_by_activity"]


def test_without_matplotlib_there_is_a_page_and_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (figures_module, publish_module):
        monkeypatch.setattr(module, "has_matplotlib", lambda: False)
    lines = publish(small_report(), tmp_path)
    assert "recbole_fofa[plots]" in lines[1]
    assert "<svg" not in (tmp_path / "report.html").read_text()


def test_names_are_text_and_not_markup() -> None:
    text = page(small_report(), {})
    assert "ring &lt;&amp;&gt; co" in text and "<&>" not in text


def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path is not None:
            return path
    if os.environ.get("FOFA_NEEDS_BROWSER"):
        pytest.fail("no Chromium, but FOFA_NEEDS_BROWSER is set")
    pytest.skip("no Chromium on this machine")


@pytest.mark.parametrize("width", [1200, 420])
def test_a_browser_shows_the_page(tmp_path: Path, width: int) -> None:
    """Everything is there and readable, nothing is asked of the network, nothing runs off."""
    playwright = pytest.importorskip("playwright.sync_api")
    publish(small_report(), tmp_path)
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    asked: list[str] = []
    told: list[str] = []
    with playwright.sync_playwright() as tool:
        opened = tool.chromium.launch(executable_path=browser(), args=flags)
        view = opened.new_page(viewport={"width": width, "height": 900})
        view.on("request", lambda request: asked.append(request.url))
        view.on("console", lambda message: told.append(message.text))
        view.on("pageerror", lambda error: told.append(str(error)))
        view.goto((tmp_path / "report.html").as_uri())
        heading = view.inner_text("h1")
        tables_seen = view.locator("section table").count()
        boxes = [view.locator(f"#{name} svg").bounding_box() for name in figures(small_report())]
        overflow = view.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        words = view.inner_text("body")
        opened.close()
    assert heading == "Device report: ForwardOFA on ring <&> co"
    assert tables_seen == 4 and told == []
    assert len(asked) == 1 and asked[0].startswith("file:")
    assert all(box and box["width"] > 250 and box["x"] + box["width"] <= width for box in boxes)
    assert overflow <= 0
    assert "0.50 / 1.25" in words and "interactions since the payload was made" in words


def test_svg_ids_do_not_clash_on_the_page() -> None:
    """Figures on one page share a name space: a clip path of one must not cut another."""
    text = page(small_report(), figures(small_report()))
    ids = re.findall(r'\bid="([^"]+)"', text)
    clips = [name for name in ids if re.fullmatch(r"p[0-9a-f]{10}", name)]
    assert len(set(clips)) == len(clips)
    assert json.dumps(clips) != "[]"
