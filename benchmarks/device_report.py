"""Device reports of a trained model, for docs/device_report/: one for each kind of candidates.

All words that are not known here go to the training run.

    python benchmarks/device_report.py --dataset ml-100k --candidates full uni99
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from record import ROOT, append_line, best_checkpoint, finished_run, provenance

DOCS = ROOT / "docs" / "device_report"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--dataset", default="ml-100k", help="name, folder or file")
    parser.add_argument("--candidates", nargs="+", default=["full"])
    parser.add_argument("--torch_threads", type=int, default=1)
    arguments, words = parser.parse_known_args()
    origin = provenance(arguments.torch_threads)
    words += [f"--dataset={arguments.dataset}", f"--torch_threads={arguments.torch_threads}"]
    with finished_run([*words, "--valid_metric=NDCG@10"]) as folder:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        for candidates in arguments.candidates:
            made = folder / candidates
            evaluate(best_checkpoint(folder), candidates, made, arguments.torch_threads)
            data = arguments.dataset.rstrip("/").split("/")[-1]
            name = data if candidates == "full" else f"{data}-{candidates}"
            keep(made, name, origin)
            line = {"name": name, "dataset": data, "valid": result["best_valid_result"]}
            append_line("device_report", line | shortened(made) | origin)


def evaluate(checkpoint: Path, candidates: str, folder: Path, threads: int) -> None:
    """The project's own command, in a process of its own."""
    command = [sys.executable, ROOT / "run_recbole_fofa.py", "device-eval", "-q"]
    command += ["--checkpoint", checkpoint, "--output_dir", folder]
    command += ["--candidates", candidates, "--threads", str(threads)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def keep(made: Path, name: str, origin: dict[str, Any]) -> None:
    """Page and figures into the documentation, with where they came from."""
    folder = DOCS / name
    folder.mkdir(parents=True, exist_ok=True)
    for path in made.glob("*.svg"):
        shutil.copy(path, folder / path.name)
    page = (made / "report.md").read_text(encoding="utf-8")
    page += f"\n```bash\n{origin['command']}\n```\n\nCommit {origin['commit']}; "
    page += f"{origin['hardware']}, threads: {origin['threads']}.\n"
    (folder / "report.md").write_text(page, encoding="utf-8")


def shortened(made: Path) -> dict[str, Any]:
    """What a line keeps of a report: no slices."""
    report = json.loads((made / "report.json").read_text(encoding="utf-8"))
    rows = [{key: row[key] for key in row if key != "slices"} for row in report["rows"]]
    keys = ("profile", "age", "n", "metrics")
    stale = [{key: row[key] for key in keys} for row in report["staleness"]]
    return {
        "protocol": report["protocol"],
        "settings": report["model"]["settings"],
        "rows": rows,
        "staleness": stale,
        "request_ms_by_kept_blocks": report["measured"]["request_ms_by_kept_blocks"],
    }


if __name__ == "__main__":
    main()
