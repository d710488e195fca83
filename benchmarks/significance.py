"""Are the differences of head_to_head more than chance? User by user, values averaged over seeds.

For each data set and protocol ForwardOFA is compared with every other model of the lines, on those
seeds that both have; two-sided permutation tests, corrected by Holm over the models.

    python benchmarks/significance.py
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from head_to_head_tables import STUDIES, hashes, latest_by_dataset
from record import RESULTS, append_line, provenance

from recbole_fofa.evaluator.compare import compare_values, holm
from recbole_fofa.evaluator.per_user import FILE, per_user_values
from recbole_fofa.evaluator.result import read_report

REFERENCE = "ForwardOFA"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--metric", default="ndcg@10")
    parser.add_argument("--datasets", nargs="+", help="only these")
    parser.add_argument("--protocols", nargs="+", default=["full", "masked", "uni99"])
    parser.add_argument("--reference", help="model that others are compared to")
    parser.add_argument("--study", choices=STUDIES, help="of the models of this plan")
    arguments = parser.parse_args()
    if arguments.reference is None:
        arguments.reference = STUDIES[arguments.study][1][0] if arguments.study else REFERENCE
    origin = provenance(1)
    for dataset, shown in latest_by_dataset(arguments.study).items():
        if arguments.datasets and dataset not in arguments.datasets:
            continue
        models = folders_of(shown)
        for protocol in arguments.protocols:
            for line in comparisons(models, protocol, arguments):
                line |= {"dataset": dataset, "protocol": protocol, "metric": arguments.metric}
                line |= {"study": arguments.study} if arguments.study else {}
                line["settings_hashes"] = hashes(shown, (arguments.reference, line["name"]))
                append_line("significance", line | origin)
                print(dataset, protocol, line["name"], f"{line['difference']:+.4f}", line["p_holm"])


def folders_of(shown: dict[str, list[dict[str, Any]]]) -> dict[str, dict[int, Path]]:
    """Folder of per-user values by model and seed, of the lines that tables show."""
    root = RESULTS.parent.parent
    return {
        model: {line["seed"]: root / line["per_user"] for line in lines}
        for model, lines in shown.items()
    }


def comparisons(
    models: dict[str, dict[int, Path]], protocol: str, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """The reference's advantage over each other model; seeds that are not here are left out."""
    own = models.get(arguments.reference, {})
    found = []
    for name, folders in models.items():
        seeds = sorted(
            seed
            for seed in set(own) & set(folders)
            if (own[seed] / protocol / FILE).is_file()
            and (folders[seed] / protocol / FILE).is_file()
        )
        if name != arguments.reference and seeds:
            ours = over_seeds([own[seed] / protocol for seed in seeds], arguments.metric)
            theirs = over_seeds([folders[seed] / protocol for seed in seeds], arguments.metric)
            (one,) = compare_values(theirs, [(name, ours)])
            found.append((asdict(one), seeds))
    corrected = holm([one["p"] for one, _ in found])
    return [
        {**one, "p_holm": p, "seeds": seeds, "reference_model": arguments.reference}
        for (one, seeds), p in zip(found, corrected, strict=True)
    ]


def over_seeds(folders: list[Path], metric: str) -> dict[str, float]:
    """Each user's mean over seeds, of the first row of each result."""
    total: dict[str, float] = defaultdict(float)
    for folder in folders:
        label = read_report(folder).rows[0].label
        for user, value in per_user_values(folder / FILE, label, metric).items():
            total[user] += value / len(folders)
    return dict(total)


if __name__ == "__main__":
    main()
