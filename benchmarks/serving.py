"""Lists for many histories: how many a second, and how time and memory grow with their number.

Histories are prefixes of those of ml-100k; the model has one epoch, which changes nothing about
the work. Each number of histories is a process of its own, so that the peak of
memory is its own; the smallest runs first and last, because machines are shared.

    python benchmarks/serving.py --histories 1000 10000 100000 --threads 1
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import append_line, finished_run, provenance

NAME = "serving"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--histories", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        bundle, histories = arguments.one
        print(json.dumps(measured(Path(bundle), Path(histories), arguments.threads)))
        return
    origin = provenance(arguments.threads)
    words = ["--epochs=1", f"--torch_threads={arguments.threads}"]
    with finished_run(words) as bundle, tempfile.TemporaryDirectory() as folder:
        for number in (*arguments.histories, arguments.histories[0]):
            file = Path(folder) / f"{number}.txt"
            write_histories(file, number)
            command = [sys.executable, __file__, "--one", str(bundle), str(file)]
            command.append(f"--threads={arguments.threads}")
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            line = {"data": "ml-100k", **json.loads(done.stdout.splitlines()[-1])}
            append_line(NAME, line | origin)
            print(line)


def write_histories(path: Path, number: int) -> None:
    """Prefixes of the users' histories in the order of the file's rows by time."""
    from recbole_fofa.quick_start import checked_config, prepare_data

    train, *_ = prepare_data(checked_config(config_dict={"dataset": "ml-100k", "quiet": True}))
    dataset = train._dataset
    tokens, histories = dataset.field2id_token[dataset.iid_field], dataset.histories
    draw = random.Random(1)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(number):
            end = draw.randrange(len(histories.items))
            items = histories.items[max(histories.starts[end], end - 200) : end]
            file.write(" ".join(tokens[items]) + "\n")


def measured(bundle: Path, histories: Path, threads: int) -> dict[str, float | int]:
    """In a process of its own: one file of histories, then single calls."""
    import torch

    from recbole_fofa import load, recommend_many

    torch.set_num_threads(threads)
    recommender = load(bundle, device="cpu")
    recommender.recommend([["50", "172"]])  # what is only done once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    target = histories.with_suffix(".jsonl")
    totals = recommend_many(recommender, histories, target, show_progress=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    for _ in range(200):
        recommender.recommend([["50", "172", "181", "1", "7"]])
    return {
        "histories": totals.histories,
        "seconds": round(totals.seconds, 2),
        "a_second": round(totals.histories / totals.seconds, 1),
        "peak_memory_growth_bytes": 1024 * (peak - before),
        "single_call_ms": round(5 * (time.perf_counter() - started), 3),
    }


if __name__ == "__main__":
    main()
