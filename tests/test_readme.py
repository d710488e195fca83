"""The figures in README and docs are those of the lines in benchmarks/results."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_readme_and_results_are_what_the_lines_say(tmp_path: Path) -> None:
    """Both ways: a changed line or a changed figure is found."""
    for name in ("benchmarks/results", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for path in [ROOT / "README.md", *(ROOT / "benchmarks").glob("*.py")]:
        shutil.copy(path, tmp_path / path.relative_to(ROOT))

    def stale() -> str:
        command = [sys.executable, tmp_path / "benchmarks" / "report.py", "--check"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stderr

    assert stale() == ""
    results = tmp_path / "benchmarks" / "results" / "head_to_head.jsonl"
    lines = results.read_text(encoding="utf-8")
    line = json.loads(lines.splitlines()[-1])
    line["protocols"]["full"]["ndcg@10"] = line["ndcg@10"] = 0.9
    results.write_text(lines + json.dumps(line) + "\n", encoding="utf-8")
    assert "not what the lines say" in stale()
    results.write_text(lines, encoding="utf-8")
    readme = tmp_path / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8").replace("| 0.", "| 1.", 1))
    assert "README.md" in stale()
