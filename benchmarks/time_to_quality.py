"""How long until stock SASRec's best validation score, against the time that stock takes.

Score and epoch of stock come from its own finished run of that seed: on ml-100k from
``stock_recbole.py``, elsewhere from ``head_to_head.py``. Its seconds an epoch, validation included,
are measured here, beside ours, with autograd's anomaly mode on, as users of RecBole have it, and
with it off; all steps of an epoch cost the same, so ``--stock_steps`` of them may stand for it.
Ours train until they are there, with the settings of the data set's plan. Each in a process of its
own, one after the other.

    python benchmarks/time_to_quality.py --seeds 1 2 --threads 1
    python benchmarks/time_to_quality.py --dataset ml-1m --seeds 1 --stock_steps 4 --threads 1
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from plan import runs
from record import BENCHMARKS, append_line, provenance, read_lines
from speed import FirstSteps

NAME = "time_to_quality"
STOCK = "RecBole SASRec"
STOPPING_STEP = 10
"""RecBole's default: so many epochs without a better score, and one more, end a run."""
PLANS = BENCHMARKS / "plans"
OURS = (
    "ForwardOFA",
    "ForwardOFA, input 20",
    "ForwardOFA, input 20, adapts on 200",
    "static backbone",
)
"""Models of the plans that are timed, those that a plan has."""


class Reached(Exception):
    """The score is there."""


@dataclass(frozen=True)
class Stock:
    """What stock's finished run of a seed found.

    Attributes:
        target: Its best validation NDCG@10.
        epochs: Until then, that epoch included.
        batch_size: Prefixes in a batch.
    """

    target: float
    epochs: int
    batch_size: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument(
        "--plan", type=Path, help="with our settings; plans/<dataset>.yaml if not given"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--stock_steps", type=int, help="of an epoch; all if not given")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(one(arguments.one, arguments.threads)))
        return
    plan = arguments.plan or PLANS / f"{arguments.dataset}.yaml"
    origin = provenance(arguments.threads)
    for seed in arguments.seeds:
        stock = finished(arguments.dataset, seed)
        ours = settings_of(plan, arguments.dataset, seed)
        orders: list[dict[str, Any]] = [
            {"way": way, "settings": settings, "target": stock.target}
            for way, settings in ours.items()
        ]
        orders += [
            {
                "way": "stock",
                "dataset": next(iter(ours.values()))["dataset"],
                "anomaly_mode": mode,
                "steps": arguments.stock_steps,
                "batch_size": stock.batch_size,
            }
            for mode in (True, False)
        ]
        for order in orders:
            line = measured({"seed": seed, **order}, arguments.threads)
            if order["way"] == "stock":
                line["epochs"] = stock.epochs
                line["seconds"] = round(line["seconds_per_epoch"] * line["epochs"], 1)
                line["reached"] = True
            line = {"seed": seed, **order, "dataset": arguments.dataset, **line}
            append_line(NAME, line | {"target": stock.target} | origin)
            print(line, flush=True)


def settings_of(plan: Path, dataset: str, seed: int) -> dict[str, dict[str, Any]]:
    """Of our models on a data set of a plan."""
    found = {
        run["model"]: run["settings"]
        for run in runs(yaml.safe_load(plan.read_text(encoding="utf-8")))
        if run["model"] in OURS and (run["dataset"], run["seed"]) == (dataset, seed)
    }
    if not found:
        sys.exit(f"{plan} has none of {', '.join(OURS)} on {dataset} with seed {seed}: give --plan")
    return found


def finished(dataset: str, seed: int) -> Stock:
    """Stock SASRec's finished run of a seed."""
    if dataset == "ml-100k":
        lines = [
            line
            for line in read_lines("stock_recbole")
            if line["seed"] == seed and line["model"] == STOCK and line["epochs"] > 1
        ]
        if not lines:
            words = f"--seed {seed} --train_batch_size 256 --stopping_step 5"
            sys.exit(f"run first: python benchmarks/stock_recbole.py {words}")
        return Stock(lines[-1]["valid_ndcg@10"], lines[-1]["best_epoch"] + 1, batch_size=256)
    lines = [
        line
        for line in read_lines("head_to_head")
        if (line["dataset"], line["model"], line["seed"]) == (dataset, STOCK, seed)
        and "failed" not in line
    ]
    if not lines:
        sys.exit("run first: python benchmarks/head_to_head.py benchmarks/plans/stock-sasrec.yaml")
    epochs = lines[-1]["epochs_run"] - STOPPING_STEP - 1
    return Stock(lines[-1]["valid"]["ndcg@10"], epochs, batch_size=2048)


def measured(order: dict[str, Any], threads: int) -> dict[str, Any]:
    """In a process of its own."""
    command = [sys.executable, __file__, f"--threads={threads}", f"--one={json.dumps(order)}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def one(order: dict[str, Any], threads: int) -> dict[str, Any]:
    if order["way"] == "stock":
        return stock_epoch(order, threads)
    return until_reached(order, threads)


def stock_epoch(order: dict[str, Any], threads: int) -> dict[str, Any]:
    """Seconds of stock's first epoch, or of some of its steps times all, and of its validation."""
    from stock_recbole import stock_setting, stock_trainer

    with stock_setting(threads, inter_file(Path(order["dataset"]))) as folder:
        trainer, train_data, valid_data, _ = stock_trainer(
            folder,
            anomaly_mode=order["anomaly_mode"],
            seed=order["seed"],
            train_batch_size=order["batch_size"],
        )
        n_steps = order["steps"] or len(train_data)
        started = time.perf_counter()
        trainer._train_epoch(FirstSteps(train_data, n_steps), 0)
        trained = time.perf_counter()
        trainer._valid_epoch(valid_data)
        seconds = (trained - started) * len(train_data) / n_steps + time.perf_counter() - trained
        return {"seconds_per_epoch": round(seconds, 2)}


def inter_file(place: Path) -> Path | None:
    """Of a plan's data set: a file, or that of a folder; ``None`` for ml-100k, a mere name."""
    if place.is_dir():
        (place,) = place.glob(f"{place.name}.inter*")
    return place if place.is_file() else None


def until_reached(order: dict[str, Any], threads: int) -> dict[str, Any]:
    """Epochs and seconds, validations included, until the target or the last epoch."""
    from recbole_fofa.quick_start import checked_config, prepare_training

    scores: list[float] = []

    def after_validation(epoch: int, score: float) -> None:
        scores.append(float(score))
        if score >= order["target"]:
            raise Reached

    with tempfile.TemporaryDirectory() as folder:
        settings = {
            **order["settings"],
            "seed": order["seed"],
            "output_dir": folder,
            "quiet": True,
            "torch_threads": threads,
            "metric_decimal_place": 8,
        }
        trainer, (train, valid, _) = prepare_training(checked_config(config_dict=settings))
        started = time.perf_counter()
        reached = False
        try:
            trainer.fit(train, valid, saved=False, callback_fn=after_validation)
        except Reached:
            reached = True
        seconds = time.perf_counter() - started
    return {
        "reached": reached,
        "epochs": len(scores),
        "best": max(scores),
        "seconds": round(seconds, 1),
        "seconds_per_epoch": round(seconds / len(scores), 2),
    }


if __name__ == "__main__":
    main()
