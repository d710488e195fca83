"""Device reports of trained models, for docs/device_report/: the run's own --device_eval.

All words that are not known here go to the run.

    python benchmarks/device_report.py --torch_threads=1
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from record import append_line, finished_run, provenance

DOCS = Path(__file__).resolve().parent.parent / "docs" / "device_report"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--dataset", default="ml-100k", help="name, folder or file")
    parser.add_argument("--name", help="of the report's folder (default: the data's)")
    parser.add_argument("--torch_threads", type=int, default=1)
    arguments, words = parser.parse_known_args()
    data = arguments.dataset.rstrip("/").split("/")[-1]
    name = arguments.name or data
    origin = provenance(arguments.torch_threads)
    words += [f"--dataset={arguments.dataset}", f"--torch_threads={arguments.torch_threads}"]
    with finished_run([*words, "--device_eval=true", "--valid_metric=NDCG@10"]) as folder:
        (made,) = (folder / "saved").glob("*-devices")
        report = json.loads((made / "report.json").read_text(encoding="utf-8"))
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        (DOCS / name).mkdir(parents=True, exist_ok=True)
        for path in [made / "report.md", *made.glob("*.svg")]:
            shutil.copy(path, DOCS / name / path.name)
    rows = [{k: row[k] for k in row if k != "slices"} for row in report["rows"]]
    line = {"name": name, "dataset": data, "protocol": report["protocol"], "rows": rows}
    line |= {
        "staleness": [
            {k: r[k] for k in ("profile", "age", "n", "metrics")} for r in report["staleness"]
        ]
    }
    line |= {"settings": report["model"]["settings"], "valid": result["best_valid_result"]}
    append_line("device_report", line | origin)
    with (DOCS / name / "report.md").open("a", encoding="utf-8") as file:
        file.write(f"\n```bash\n{origin['command']}\n```\n\nCommit {origin['commit']}; ")
        file.write(f"{origin['hardware']}, threads: {origin['threads']}.\n")


if __name__ == "__main__":
    main()
