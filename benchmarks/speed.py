"""Seconds per training epoch on ml-100k, side by side in one process.

Four ways, in rounds in which each has its turn: RecBole's SASRec as its users run it (with the
anomaly mode that RecBole leaves on), the same with that mode switched off, the static backbone in
session training, and ForwardOFA in session training. Ours run whole epochs. All steps of the
stock model cost the same (every row is padded to 50 items), so a few are timed and scaled to the
number of steps in an epoch.

    python benchmarks/speed.py --threads 1
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from record import append_line, provenance
from stock_recbole import stock_setting, stock_trainer

STATIC = {"use_controller": False, "use_mapper": False}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stock_steps", type=int, default=4)
    arguments = parser.parse_args()
    origin = provenance(arguments.threads)
    with stock_setting(arguments.threads) as folder:
        ways = {
            "RecBole SASRec, as users run it": stock(folder, True, arguments.stock_steps),
            "RecBole SASRec, anomaly mode off": stock(folder, False, arguments.stock_steps),
            "static backbone, session training": ours(folder, **STATIC),
            "ForwardOFA, session training": ours(folder),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for round_number in range(arguments.rounds + 1):
            for name, (epoch, _) in ways.items():
                taken = epoch(round_number)
                if round_number:  # the first one warms up
                    seconds[name].append(taken)
    static = statistics.median(seconds["static backbone, session training"])
    for name, (_, steps) in ways.items():
        middle = statistics.median(seconds[name])
        print(f"{name:<36} {middle:8.1f} s per epoch {middle / static:7.2f} x static")
        line = {
            "dataset": "ml-100k",
            "way": name,
            "steps_per_epoch": steps,
            "seconds_per_epoch": round(middle, 3),
            "ratio_to_static": round(middle / static, 3),
            "rounds": [round(value, 3) for value in seconds[name]],
        }
        append_line("speed", line | origin)


if __name__ == "__main__":
    main()
