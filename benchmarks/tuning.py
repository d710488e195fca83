"""The same search for every model of a plan, by validation scores alone: a line for each model.

A plan with ``search`` gives the number of trials and what may be chosen; a model's own ``space``
takes the place of the common one, and ``search: false`` leaves a model as it is. Finished trials
are kept in ``searches/`` (not committed), so that a killed search goes on; a finished one is never
repeated. ``head_to_head.py`` takes what was chosen from the lines.

    python benchmarks/tuning.py benchmarks/plans/ml-100k-tuned.yaml --threads 1
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import yaml
from plan import searches
from record import RESULTS, append_line, provenance, read_lines

from recbole_fofa.quick_start import checked_config
from recbole_fofa.tuning.search import tune
from recbole_fofa.tuning.space import read_space

NAME = "tuning"
SEARCHES = RESULTS.parent / "searches"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("--models", nargs="+", help="only these of the plan")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    plan = yaml.safe_load(arguments.plan.read_text(encoding="utf-8"))
    for search in searches(plan):
        if arguments.models and search["model"] not in arguments.models:
            continue
        line = find(search) or execute(search, arguments.threads)
        print(search["dataset"], search["model"], line["score"], line["chosen"])


def find(search: dict[str, Any]) -> dict[str, Any] | None:
    """The line of a search that was finished before."""
    found = [line for line in read_lines(NAME) if line["hash"] == search["hash"]]
    return found[-1] if found else None


def execute(search: dict[str, Any], threads: int) -> dict[str, Any]:
    """A search; its line, which is kept."""
    origin = provenance(threads)
    folder = SEARCHES / f"{search['dataset']}-{search['hash']}"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "space.yaml"
    file.write_text(yaml.safe_dump(search["space"]), encoding="utf-8")
    settings = {**search["settings"], "dataset": search["path"], "torch_threads": threads}
    best, _ = tune(
        checked_config(config_dict=settings),
        read_space(file),
        search["trials"],
        folder,
        on_trial=lambda trial: print(search["dataset"], search["model"], trial.words(), flush=True),
    )
    _, *trials = map(json.loads, (folder / "trials.jsonl").read_text().splitlines())
    line = {key: search[key] for key in ("dataset", "model", "hash", "settings", "space")}
    line |= {
        "trials": len(trials),
        "stopped_early": sum(trial["state"] == "pruned" for trial in trials),
        "failed": sum(trial["state"] == "failed" for trial in trials),
        "chosen": best.chosen,
        "score": best.score,
        "first_score": trials[0]["score"],
        "epochs": sum(len(trial["scores"]) for trial in trials),
        "seconds": round(sum(trial["seconds"] for trial in trials), 1),
    } | origin
    append_line(NAME, line)
    return line


if __name__ == "__main__":
    main()
