"""How long until stock SASRec's best validation score, against the time that stock takes, ml-100k.

Score and epoch of stock come from its own finished run (``stock_recbole.py``, same seed and batch
size). Its seconds an epoch, validation included, are measured here, beside ours: one epoch with
autograd's anomaly mode on, as users of RecBole have it, and one with it off. Ours train until they
are there. Each in a process of its own, one after the other.

    python benchmarks/time_to_quality.py --seeds 1 2 --threads 1
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from typing import Any

from record import append_line, provenance, read_lines

NAME = "time_to_quality"
BATCH_SIZE = 256
SHORT: dict[str, Any] = {"MAX_ITEM_LIST_LENGTH": 20, "adapt_seq_length": 200}
STATIC: dict[str, Any] = {"use_controller": False, "use_mapper": False}
OURS: dict[str, dict[str, Any]] = {
    "ForwardOFA": {},
    "ForwardOFA, input 20, adapts on 200": SHORT,
    "static backbone, session training": STATIC,
}


class Reached(Exception):
    """The score is there."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(one(arguments.one, arguments.threads)))
        return
    origin = provenance(arguments.threads)
    for seed in arguments.seeds:
        best = stock_run(seed)
        orders = [{"way": way, "seed": seed, "target": best["valid_ndcg@10"]} for way in OURS]
        orders += [{"way": "stock", "seed": seed, "anomaly_mode": mode} for mode in (True, False)]
        for order in orders:
            line = measured(order, arguments.threads)
            if order["way"] == "stock":
                line["epochs"] = best["best_epoch"] + 1
                line["seconds"] = round(line["seconds_per_epoch"] * line["epochs"], 1)
                line["reached"] = True
            line = {"dataset": "ml-100k", **order, "target": best["valid_ndcg@10"], **line}
            append_line(NAME, line | origin)
            print(line, flush=True)


def stock_run(seed: int) -> dict[str, Any]:
    """Stock SASRec's finished run of a seed."""
    found = [
        line
        for line in read_lines("stock_recbole")
        if line["seed"] == seed and line["model"] == "RecBole SASRec" and line["epochs"] > 1
    ]
    if not found:
        sys.exit(f"run first: python benchmarks/stock_recbole.py --seed {seed}")
    return found[-1]


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
    """Seconds of stock's first epoch and its validation."""
    from stock_recbole import stock_setting, stock_trainer

    with stock_setting(threads) as folder:
        trainer, train_data, valid_data, _ = stock_trainer(
            folder,
            anomaly_mode=order["anomaly_mode"],
            seed=order["seed"],
            train_batch_size=BATCH_SIZE,
        )
        started = time.perf_counter()
        trainer._train_epoch(train_data, 0)
        trainer._valid_epoch(valid_data)
        return {"seconds_per_epoch": round(time.perf_counter() - started, 2)}


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
            **OURS[order["way"]],
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
