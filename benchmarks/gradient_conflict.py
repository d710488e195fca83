"""Do structures pull the same parameters apart? Five ways of holding the blocks' parameters.

Shared weights (no mapper), one hypernetwork for all blocks, one for each block, the last two of the
full and of the low-rank form: the same data,
seeds, steps and structures' settings. Measured in training by ``conflict_every``: cosines between
the gradients of groups of users with different structures, and between halves of one group.

    python benchmarks/gradient_conflict.py --seeds 1 2 3 --epochs 3
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from record import append_line, finished_run, provenance

PAIRS = {"different": "different structures", "same": "one structure"}
WAYS = {
    "shared weights": ["--use_mapper=false", "--repeat_bias=shared"],
    "shared hypernetwork": ["--mapper_form=full", "--parallel_mappers=false"],
    "parallel mappers": ["--mapper_form=full"],
    "shared hypernetwork, low rank": ["--parallel_mappers=false"],
    "parallel mappers, low rank": [],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--n_layers", type=int, default=3)
    parser.add_argument("--torch_threads", type=int, default=1)
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for way in arguments.ways:
            for line in measure(way, seed, arguments):
                append_line("gradient_conflict", line)
                print(way, seed, line["epoch"], line["holder"], line["pairs"], line["mean_cosine"])


def measure(way: str, seed: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One run; a line for each epoch, kind of parameters and kind of pairs."""
    origin = provenance(arguments.torch_threads)
    words = [
        "--dataset",
        "ml-100k",
        f"--seed={seed}",
        f"--epochs={arguments.epochs}",
        f"--n_layers={arguments.n_layers}",
        f"--torch_threads={arguments.torch_threads}",
        "--train_batch_size=64",
        "--conflict_every=10",
        *WAYS[way],
    ]
    with finished_run(words) as folder:
        (record,) = (folder / "saved").glob("*.epochs.jsonl")
        epochs = [json.loads(text) for text in record.read_text(encoding="utf-8").splitlines()]
    return [
        {
            "dataset": "ml-100k",
            "way": way,
            "seed": seed,
            "epoch": numbers["epoch"],
            "holder": holder,
            "pairs": meaning,
            "n_pairs": int(numbers[f"{holder} pairs {pairs}"]),
            "mean_cosine": numbers[f"{holder} cosine {pairs}"],
            "negative_share": numbers[f"{holder} negative {pairs}"],
            "keep_rate": numbers["keep rate"],
            "run": " ".join(["python", "run_recbole_fofa.py", *words]),
        }
        | origin
        for numbers in epochs
        for holder in ("base", "mapper")
        for pairs, meaning in PAIRS.items()
        if f"{holder} cosine {pairs}" in numbers
    ]


if __name__ == "__main__":
    main()
