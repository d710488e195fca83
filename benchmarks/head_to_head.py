"""The models of plans on their data sets, over their seeds: one finished run, one line.

Each run is a process of its own: training by the project's own command, then the device report of
the best epoch under three protocols (all items; all but the history; the target and 99 unseen
items). A finished run is never repeated; a killed one has no line, and goes on after its last
whole epoch when it is called again (its files are in ``unfinished/`` until then); a failing one
becomes a line with its reason (``--again`` repeats those). Values of single users, for tests of
significance, are in ``results/users/``. With ``BENCH_RESULTS=FOLDER/results`` all is kept in
FOLDER, and the lines of ``results/`` do not count as finished.

    python benchmarks/head_to_head.py benchmarks/plans/ml-100k.yaml --threads 1
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from plan import runs
from record import (
    RESULTS,
    ROOT,
    append_line,
    best_checkpoint,
    provenance,
    read_lines,
    refuse_unknown,
)
from user_values import FOLDER, keep_values

from recbole_fofa.errors import OutputError
from recbole_fofa.whole_file import held, write_whole

UNFINISHED = RESULTS.parent / "unfinished"
PROTOCOLS: dict[str, dict[str, Any]] = {
    "full": {},
    "masked": {"mask_history": True},
    "uni99": {"candidates": "uni99"},
}
NAME = "head_to_head"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "plans", type=Path, nargs="+", help="YAML: datasets, models, seeds, search; one by one"
    )
    parser.add_argument("--datasets", nargs="+", help="only these of the plans")
    parser.add_argument("--models", nargs="+", help="only these of the plans")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these of the plans")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, a process each")
    parser.add_argument("--again", action="store_true", help="repeat runs that failed")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        work(json.loads(arguments.one.read_text(encoding="utf-8")))
        return
    planned = [
        {"plan": plan.stem, **run}
        for plan in arguments.plans  # what is missing is told before the first run
        for run in runs(yaml.safe_load(plan.read_text(encoding="utf-8")))
    ]
    wanted = planned
    for key in ("dataset", "model", "seed"):
        only = getattr(arguments, f"{key}s")
        refuse_unknown(f"--{key}s", only, [run[key] for run in planned])
        wanted = [run for run in wanted if not only or run[key] in only]
    with ThreadPoolExecutor(arguments.workers) as pool:
        lines = list(pool.map(partial(line_of, arguments=arguments), wanted))
    sys.exit(any("failed" in line for line in lines))


def line_of(run: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """The line of a run, which is done now unless it was finished before."""
    line = find(run)
    if line is None or (arguments.again and "failed" in line):
        folder = UNFINISHED / name_of(run)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with held(folder) as handle:
                line = execute(run, arguments, folder, handle)
        except OutputError as error:  # another process is at it
            line = {"failed": str(error)}
    result = line.get("failed") or line["ndcg@10"]
    print(run["dataset"], run["model"], run["seed"], result, flush=True)
    return line


def find(run: dict[str, Any]) -> dict[str, Any] | None:
    """The latest line of a run, if it was finished before."""
    keys = ("dataset", "model", "seed", "settings_hash")
    found = [line for line in read_lines(NAME) if all(line[key] == run[key] for key in keys)]
    return found[-1] if found else None


def execute(
    run: dict[str, Any], arguments: argparse.Namespace, folder: Path, handle: int | None
) -> dict[str, Any]:
    """A run in a process of its own; its line, which is kept unless the process was killed."""
    origin = provenance(arguments.threads)
    before, begun_at = earlier_attempts(folder, origin["commit"])
    order, errors = folder / "order.json", folder / "errors.txt"
    told = {**run, "threads": arguments.threads, "folder": str(folder), "seconds_before": before}
    order.write_text(json.dumps(told), encoding="utf-8")
    started = time.perf_counter()
    with errors.open("wb") as sink:
        child = subprocess.Popen(
            [sys.executable, __file__, "-", "--one", str(order)],
            stdout=sink,
            stderr=sink,
            pass_fds=() if handle is None else (handle,),  # held, even if this process is killed
        )
        _, status, usage = os.wait4(child.pid, 0)
    seconds = before + time.perf_counter() - started
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return {"failed": f"killed by signal {-code}; called again, it goes on"}
    line = {key: value for key, value in run.items() if key != "settings"}
    line["settings"] = {**run["settings"], "dataset": run["dataset"]}
    if code == 0:
        line |= json.loads((folder / "done.json").read_text(encoding="utf-8"))
    else:
        written = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        line["failed"] = (written or [f"exit code {code}"])[-1][:500]
    line |= {
        "seconds": round(seconds, 1),
        "peak_memory_bytes": usage.ru_maxrss * 1024,
        "workers": arguments.workers,
        "resumed": before > 0,
        "begun_at_commit": begun_at,
        **origin,
    }
    append_line(NAME, line)
    shutil.rmtree(folder)
    return line


def name_of(run: dict[str, Any]) -> str:
    """Of the folders of a run."""
    return f"{run['dataset']}-{run['model']}-{run['seed']}-{run['settings_hash']}".replace(" ", "_")


def earlier_attempts(folder: Path, commit: str) -> tuple[float, str]:
    """What earlier attempts at a run took up to the last checkpoint, and at which commit it began.

    A new attempt begins.
    """
    kept = folder / "attempts.json"  # as old as the attempt that wrote it
    attempts = {"seconds": 0.0, "commit": commit}
    if kept.exists():
        attempts = json.loads(kept.read_text(encoding="utf-8"))
        newest = max((file.stat().st_mtime for file in checkpoints(folder)), default=0.0)
        attempts["seconds"] += max(0.0, newest - kept.stat().st_mtime)
    write_whole(kept, json.dumps(attempts).encode())
    return attempts["seconds"], attempts["commit"]


def checkpoints(folder: Path) -> list[Path]:
    """Of a run; there are some if it has finished an epoch."""
    return list((folder / "saved").glob("*.pth"))


def work(run: dict[str, Any]) -> None:
    """In the process of a run: train, evaluate under each protocol, write ``done.json``."""
    import torch

    from recbole_fofa.quick_start import load_data_and_model, run_recbole_fofa
    from recbole_fofa.trainer.record import read_record

    torch.set_num_threads(run["threads"])
    folder = Path(run["folder"])
    settings = {"metric_decimal_place": 6, **run["settings"], "seed": run["seed"]}
    started = time.perf_counter()
    out = {"output_dir": str(folder), "quiet": True, "torch_threads": run["threads"]}
    going_on = {"resume_from": str(folder)} if checkpoints(folder) else {}
    result = run_recbole_fofa(config_dict={**settings, **out, **going_on})
    train_seconds = run["seconds_before"] + time.perf_counter() - started
    best = best_checkpoint(folder)
    epochs = read_record(best.with_name(f"{best.stem}.epochs.jsonl"))
    config, model, _, train_data, _, test_data = load_data_and_model(best)
    loaders = (train_data, test_data)
    values = FOLDER / f"{name_of(run)}.npz"
    line: dict[str, Any] = {
        "valid": result["best_valid_result"],
        "epochs_run": sum(epoch["phase"] == "train" for epoch in epochs),
        "train_seconds": round(train_seconds, 1),
        "per_user": os.path.relpath(values, ROOT),
        "protocol": f"leave-one-out, {', '.join(PROTOCOLS)}; epoch by {config['valid_metric']}",
        "protocols": {
            protocol: measured(model, loaders, how, folder / protocol)
            for protocol, how in PROTOCOLS.items()
        },
    }
    keep_values([folder / protocol for protocol in PROTOCOLS], values)
    line |= line["protocols"]["full"]
    (folder / "done.json").write_text(json.dumps(line), encoding="utf-8")


def measured(model: Any, loaders: Any, how: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Metrics, and what a request costs where that is known."""
    from recbole_fofa.device_profile import DeviceProfile
    from recbole_fofa.evaluator.evaluate import evaluate_on_devices
    from recbole_fofa.evaluator.prepare import Options

    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    free = [DeviceProfile(name="free")]
    options = Options(free, ages=(), times=False, yardsticks=False, **how)
    row = evaluate_on_devices(model, *loaders, options, folder).rows[0]
    costs = {
        "mean_macs": row.macs.get("mean"),
        "macs_share": row.macs_share,
        "payload_bytes": row.payload_bytes.get("mean"),
        "structures": row.counts,
    }
    return row.metrics | {key: value for key, value in costs.items() if value}


if __name__ == "__main__":
    main()
