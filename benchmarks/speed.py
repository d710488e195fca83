"""Seconds per training epoch on ml-100k, side by side.

Four ways, each in a process of its own as when it is trained for real (what one leaves behind in
the allocator slows the next), in rounds in which each has its turn while the others wait: RecBole's
SASRec as its users run it (with the anomaly mode that RecBole leaves on), the same with that mode
switched off, the static backbone in session training, and ForwardOFA in session training. Ours run
whole epochs. All steps of the stock model cost the same (every row is padded to 50 items), so a few
are timed and scaled to the number of steps in an epoch.

    python benchmarks/speed.py --threads 1
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from record import append_line, provenance
from stock_recbole import stock_setting, stock_trainer

STATIC = {"use_controller": False, "use_mapper": False}
WAYS = (
    "RecBole SASRec, as users run it",
    "RecBole SASRec, anomaly mode off",
    "static backbone, session training",
    "ForwardOFA, session training",
)


class FirstSteps:
    """The first batches of a loader."""

    def __init__(self, loader: Any, n_steps: int) -> None:
        self._loader, self._n_steps = loader, n_steps

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self._loader), self._n_steps)

    def __len__(self) -> int:
        return self._n_steps


def stock(folder: Path, anomaly_mode: bool, n_steps: int) -> tuple[Callable[[int], float], int]:
    """A function that gives seconds per epoch, and the number of steps in one."""
    trainer, train_data, *_ = stock_trainer(folder)
    steps = FirstSteps(train_data, n_steps)

    def epoch(number: int) -> float:
        torch.autograd.set_detect_anomaly(anomaly_mode)
        started = time.perf_counter()
        trainer._train_epoch(steps, number)
        seconds = (time.perf_counter() - started) * len(train_data) / n_steps
        torch.autograd.set_detect_anomaly(False)
        return seconds

    return epoch, len(train_data)


def ours(folder: Path, **changes: Any) -> tuple[Callable[[int], float], int]:
    """The same for this package: whole epochs."""
    from recbole_fofa.quick_start import checked_config, get_trainer, prepare_data

    settings = {"output_dir": str(folder / "ours"), "quiet": True, **changes}
    config = checked_config(config_dict=settings)
    train_data, *_ = prepare_data(config)
    trainer = get_trainer(config)(config, config.model_class(config, train_data._dataset))

    def epoch(number: int) -> float:
        started = time.perf_counter()
        trainer._train_epoch(train_data, number)
        return time.perf_counter() - started

    return epoch, len(train_data)


def worker(way: str, threads: int, stock_steps: int, turns: Connection) -> None:
    """Get ready, then time an epoch whenever its number comes; ``None`` ends it."""
    with stock_setting(threads) as folder:
        if way.startswith("RecBole"):
            epoch, steps = stock(folder, way.endswith("as users run it"), stock_steps)
        else:
            epoch, steps = ours(folder, **(STATIC if way.startswith("static") else {}))
        turns.send(steps)
        while (number := turns.recv()) is not None:
            turns.send(epoch(number))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stock_steps", type=int, default=4)
    arguments = parser.parse_args()
    origin = provenance(arguments.threads)
    spawn = multiprocessing.get_context("spawn")
    turns, steps = {}, {}
    for way in WAYS:
        turns[way], theirs = spawn.Pipe()
        words = (way, arguments.threads, arguments.stock_steps, theirs)
        spawn.Process(target=worker, args=words, daemon=True).start()
        steps[way] = turns[way].recv()
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for round_number in range(arguments.rounds + 1):
        for way in WAYS:
            turns[way].send(round_number)
            taken = turns[way].recv()
            if round_number:  # the first one warms up
                seconds[way].append(taken)
    for way in WAYS:
        turns[way].send(None)
    static = statistics.median(seconds["static backbone, session training"])
    for name in WAYS:
        middle = statistics.median(seconds[name])
        print(f"{name:<36} {middle:8.1f} s per epoch {middle / static:7.2f} x static")
        line = {
            "dataset": "ml-100k",
            "way": name,
            "steps_per_epoch": steps[name],
            "seconds_per_epoch": round(middle, 3),
            "ratio_to_static": round(middle / static, 3),
            "rounds": [round(value, 3) for value in seconds[name]],
        }
        append_line("speed", line | origin)


if __name__ == "__main__":
    main()
