"""The figures in README and docs are those of the lines in benchmarks/results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_tables_are_what_the_report_prints() -> None:
    command = [sys.executable, ROOT / "benchmarks" / "report.py"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    details = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert printed.rstrip().endswith(details.rstrip())
    section = printed.rstrip().removesuffix(details.rstrip()).strip()
    assert section.startswith("## Results")
    assert section in (ROOT / "README.md").read_text(encoding="utf-8")
