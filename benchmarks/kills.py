"""Kills training, export, tune and recommend at random moments until they get through.

A parent that has imported everything forks a child for each attempt; after a random delay, drawn
over the duration of the whole work, the child is killed with SIGKILL, and the next one goes on
from what is there. Work that got through must have left what work that nobody killed leaves:
training the same numbers and the same weights, bit for bit; export and recommend the same files,
byte for byte; tune as many trials, none lost and none double.

    python benchmarks/kills.py --kills 100 --threads 1
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from record import append_line, best_checkpoint, provenance

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from small import cycle_settings, write_cycle

from recbole_fofa.command_line import main as command
from recbole_fofa.quick_start import checked_config, run_recbole_fofa
from recbole_fofa.trainer.checkpoint import load_checkpoint
from recbole_fofa.trainer.record import read_record
from recbole_fofa.trainer.resume import LAST_SUFFIX, beside
from recbole_fofa.tuning.search import tune
from recbole_fofa.tuning.space import Range

NAME = "kills"
# What a run would import late, in each child again.
LATE = (
    "torch._dynamo",
    "torch.utils.tensorboard",
    "recbole_fofa.cloud.export",
    "recbole_fofa.serving.many",
)
TRIALS = 4


@dataclass(frozen=True)
class Job:
    """Work that may be killed.

    Attributes:
        prepare: Makes what the work reads, in a folder of its own.
        work: Begins or continues, with what was prepared, in the folder of the outcome.
        outcome: What work in that folder came to, as values that must not depend on kills.
        left: In words, what a kill left there.
    """

    prepare: Callable[[Path], None]
    work: Callable[[Path, Path], None]
    outcome: Callable[[Path], dict[str, Any]]
    left: Callable[[Path], list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="of each job")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no_line", action="store_true", help="keep no line of results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    origin = provenance(arguments.threads)
    for module in LATE:
        importlib.import_module(module)
    for name in arguments.jobs:
        with tempfile.TemporaryDirectory() as folder:
            line = kill_often(JOBS[name], Path(folder), arguments.kills, arguments.seed)
        print(name, json.dumps(line), flush=True)
        if not arguments.no_line:
            append_line(NAME, {"job": name, "seed": arguments.seed, **line} | origin)


def kill_often(job: Job, folder: Path, n_kills: int, seed: int) -> dict[str, Any]:
    """Kill a job a number of times; the entries of its line.

    Raises:
        RuntimeError: If a child failed, or its outcome differs from that without kills.
    """
    draw = random.Random(seed)
    given, whole = folder / "given", folder / "whole"
    attempt(partial(job.prepare, given), folder)
    started = time.perf_counter()
    attempt(partial(job.work, given, whole), folder)
    duration = time.perf_counter() - started
    expected = job.outcome(whole)
    killed, compared, left = 0, 0, Counter[str]()
    while killed < n_kills:
        place = folder / f"killed-{compared}"
        while attempt(partial(job.work, given, place), folder, draw.uniform(0, duration)):
            killed += 1
            left.update(job.left(place))
        found = job.outcome(place)
        if found != expected:
            differing = [key for key in expected if found.get(key) != expected[key]]
            raise RuntimeError(f"{place.name} (seed {seed}) differs in {differing or set(found)}")
        compared += 1
    return {
        "kills": killed,
        "compared": compared,
        "differing": 0,
        "seconds_without_kills": round(duration, 2),
        "left_by_kills": dict(sorted(left.items())),
    }


def attempt(work: Callable[[], None], folder: Path, delay: float | None = None) -> bool:
    """Run some work in a child; whether it was killed because it took longer than the delay."""
    started, log = time.perf_counter(), folder / "log"
    child = os.fork()
    if child == 0:
        _be_the_child(work, log)
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            break
        if delay is not None and time.perf_counter() - started >= delay:
            os.kill(child, signal.SIGKILL)
            delay = None
        time.sleep(0.0005)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status:
        raise RuntimeError(f"the child failed:\n{log.read_text(encoding='utf-8')}")
    return False


def _be_the_child(work: Callable[[], None], log: Path) -> None:
    """Never returns: what the parent registered for its own end must not run here."""
    code = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        work()
        code = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


# Training: stops early in its ninth epoch, its sixth is the best.


def prepare_training(given: Path) -> None:
    write_cycle(given / "data")


def train(given: Path, folder: Path) -> None:
    settings = cycle_settings(
        given, epochs=12, stopping_step=2, learning_rate=0.01, output_dir=str(folder)
    )
    if list(folder.glob("saved/*.pth")):
        settings["resume_from"] = str(folder)
    run_recbole_fofa(config_dict=settings)


def trained(folder: Path) -> dict[str, Any]:
    best = best_checkpoint(folder)
    states = {"best": load_checkpoint(best), "last": load_checkpoint(beside(best, LAST_SUFFIX))}
    parts = ("state_dict", "optimizer", "random", "best_valid_result", "epoch", "cur_step")
    return {
        "result": json.loads((folder / "result.json").read_text(encoding="utf-8")),
        "epochs": read_record(beside(best, ".epochs.jsonl")),
        "half-written files": [path.name for path in best.parent.glob(f"{best.stem}*.part")],
        **{
            f"{kind}, {part}": digest(state[part])
            for kind, state in states.items()
            for part in parts
        },
    }


def digest(value: Any) -> str:
    """Of nested values with tensors, to the last bit."""
    found = hashlib.sha256()

    def read(part: Any) -> None:
        if isinstance(part, torch.Tensor):
            found.update(f"{part.dtype} {tuple(part.shape)}".encode() + part.numpy().tobytes())
        elif isinstance(part, dict):
            for key in sorted(part, key=str):
                found.update(repr(key).encode())
                read(part[key])
        elif isinstance(part, (list, tuple)):
            for item in part:
                read(item)
        else:
            found.update(repr(part).encode())

    read(value)
    return found.hexdigest()


def left_by_training(folder: Path) -> list[str]:
    found = half_written(folder)
    best = [path for path in folder.glob("saved/*.pth") if not path.name.endswith(LAST_SUFFIX)]
    if not best:
        return [*found, "no checkpoint"]
    last = beside(best[0], LAST_SUFFIX)
    if not last.exists():
        return [*found, "the best epoch without the last"]
    epochs = [load_checkpoint(path)["epoch"] for path in (best[0], last)]
    return [*found, "the best epoch newer than the last" if epochs[0] > epochs[1] else "both"]


def half_written(folder: Path) -> list[str]:
    return ["a half-written file"] if list(folder.rglob("*.part")) else []


# Export: 700 users in three chunks.


def prepare_export(given: Path) -> None:
    write_cycle(given / "data", n_users=700)
    run_recbole_fofa(config_dict=cycle_settings(given, epochs=1, output_dir=str(given / "out")))


def export(given: Path, folder: Path) -> None:
    checkpoint = str(best_checkpoint(given / "out"))
    command(["export", "--checkpoint", checkpoint, "--output_dir", str(folder), "-q"])


def files(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def left_by_export(folder: Path) -> list[str]:
    manifest = folder / "manifest.jsonl"
    if not manifest.exists():
        return [*half_written(folder), "no manifest"]
    n_lines = len(manifest.read_bytes().splitlines())
    n_files = len(list(folder.glob("users/*.safetensors")))
    known = "all users" if n_lines == 700 else "some users" if n_lines else "no user"
    beyond = ["a user's file that the manifest lacks"] if n_files > n_lines else []
    return [*half_written(folder), *beyond, known]


# A search: proposals depend on how often it was begun; that no trial is lost or double does not.


def search(given: Path, folder: Path) -> None:
    space = {"learning_rate": Range(0.001, 0.03, log=True)}
    tune(checked_config(config_dict=cycle_settings(given, epochs=1)), space, TRIALS, folder)


def searched(folder: Path) -> dict[str, Any]:
    _, *trials = map(json.loads, (folder / "trials.jsonl").read_text("utf-8").splitlines())
    best = max(trials, key=lambda trial: trial["score"])
    settings = yaml.safe_load((folder / "best.yaml").read_text(encoding="utf-8"))
    return {
        "trials": [(trial["number"], trial["state"]) for trial in trials],
        "lines of the table": len((folder / "trials.csv").read_text("utf-8").splitlines()),
        "the best one is kept": settings["learning_rate"] == best["chosen"]["learning_rate"],
    }


def left_by_search(folder: Path) -> list[str]:
    file = folder / "trials.jsonl"
    n_trials = len(file.read_bytes().splitlines()) - 1 if file.exists() else 0
    return [*half_written(folder), f"{n_trials} of {TRIALS} trials"]


# Lists for 6,000 histories in six chunks.


def prepare_recommend(given: Path) -> None:
    write_cycle(given / "data")
    run_recbole_fofa(config_dict=cycle_settings(given, epochs=1, output_dir=str(given / "out")))
    draw = random.Random(1)
    lines = (" ".join(f"i{draw.randrange(15)}" for _ in range(9)) for _ in range(6000))
    (given / "histories.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def recommend(given: Path, folder: Path) -> None:
    source, target = str(given / "histories.txt"), str(folder / "lists.jsonl")
    words = ["--bundle", str(given / "out"), "--histories", source, "--output", target, "-q"]
    command(["recommend", *words, "--threads", "1"])


def left_by_recommend(folder: Path) -> list[str]:
    part = folder / "lists.jsonl.part"
    if not part.exists():
        return ["nothing"]
    return ["some lists" if part.stat().st_size else "no list"]


JOBS = {
    "training": Job(prepare_training, train, trained, left_by_training),
    "export": Job(prepare_export, export, files, left_by_export),
    "tune": Job(prepare_training, search, searched, left_by_search),
    "recommend": Job(prepare_recommend, recommend, files, left_by_recommend),
}

if __name__ == "__main__":
    main()
