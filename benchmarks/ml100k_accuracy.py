"""The default command on ml-100k over seeds, beside baselines and backbones in the same training.

Each run is the command of the README with a seed and the words of its way; what it writes into
``result.json`` becomes a line. All other settings are the same.

    python benchmarks/ml100k_accuracy.py --seeds 1 2 3 --torch_threads 1
"""

from __future__ import annotations

import argparse
import json
import os
import time
from statistics import mean, stdev
from typing import Any

from record import PROTOCOL, append_line, finished_run, provenance

STATIC = ["--use_controller=false", "--use_mapper=false"]
OTHER_BACKBONES = ("nextitnet", "gru4rec", "fmlprec")
WAYS: dict[str, list[str]] = {
    "ForwardOFA": [],
    "static backbone": STATIC,
    "DUET": ["--model=DUET"],
    "DUET, frozen generator": ["--model=DUET", "--frozen_generator=true"],
    **{f"ForwardOFA on {name}": [f"--backbone={name}"] for name in OTHER_BACKBONES},
    **{f"static {name}": [f"--backbone={name}", *STATIC] for name in OTHER_BACKBONES},
    **{f"DUET on {name}": ["--model=DUET", f"--backbone={name}"] for name in OTHER_BACKBONES},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS)[:2], metavar="WAY")
    parser.add_argument("--torch_threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    for way in arguments.ways:
        scores = [run(way, seed, arguments.torch_threads) for seed in arguments.seeds]
        spread = f" (sd {stdev(scores):.4f})" if len(scores) > 1 else ""
        print(f"{way}: test NDCG@10 {mean(scores):.4f}{spread} over seeds {arguments.seeds}")


def run(way: str, seed: int, threads: int) -> float:
    """One run in a process of its own; returns the test NDCG@10."""
    origin = provenance(threads)
    words = ["--dataset", "ml-100k", f"--seed={seed}", f"--torch_threads={threads}", *WAYS[way]]
    started = time.perf_counter()
    with finished_run([*words, "--metric_decimal_place=6"]) as folder:
        seconds = time.perf_counter() - started
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    line = {
        "dataset": "ml-100k",
        "model": way,
        "protocol": PROTOCOL,
        "seed": seed,
        "valid_ndcg@10": result["best_valid_result"]["ndcg@10"],
        **{f"test_{name}": value for name, value in result["test_result"].items()},
        **structures(result),
        "seconds": round(seconds, 1),
        "run": " ".join(["python", "run_recbole_fofa.py", *words]),
    }
    append_line("ml100k_accuracy", line | origin)
    return float(result["test_result"]["ndcg@10"])


def structures(result: dict[str, Any]) -> dict[str, Any]:
    """Who got which structure; nothing for a model that has one for all."""
    found = result.get("structures")
    if found is None:
        return {}
    return {
        "keep_rate": found["keep_rate"],
        "structures": found["counts"],
        "mean_macs_share": found["mean_macs_share"],
    }


if __name__ == "__main__":
    main()
