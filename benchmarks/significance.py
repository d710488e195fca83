"""Are the differences of head_to_head more than chance? User by user, values averaged over seeds.

For each data set and protocol the reference is compared with every other model of the lines, on
those seeds of both whose values are kept (``results/users/``); two-sided permutation tests,
corrected by Holm over the models.

    python benchmarks/significance.py --reference 'ForwardOFA, input 20' --datasets amazon-toys
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from head_to_head_tables import STUDIES, hashes, latest_by_dataset
from record import ROOT, append_line, provenance, refuse_unknown
from user_values import METRIC, over_seeds

from recbole_fofa.errors import DataError
from recbole_fofa.evaluator.compare import compare_values, holm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", nargs="+", help="only these")
    parser.add_argument("--protocols", nargs="+", default=["full", "masked", "uni99"])
    parser.add_argument("--reference", help="model that others are compared to")
    parser.add_argument("--models", nargs="+", help="the others, if not all")
    parser.add_argument("--study", choices=STUDIES, help="of the models of this plan")
    arguments = parser.parse_args()
    if arguments.reference is None:
        if arguments.study is None:
            parser.error("--reference MODEL, or --study, which has its own")
        arguments.reference = STUDIES[arguments.study][1][0]
    origin = provenance(1)
    datasets = latest_by_dataset(arguments.study)
    refuse_unknown("--datasets", arguments.datasets, datasets)
    chosen = {name: datasets[name] for name in arguments.datasets or datasets}
    known = [model for shown in chosen.values() for model in shown]
    refuse_unknown("--reference", [arguments.reference], known)
    refuse_unknown("--models", arguments.models, known)
    n_tests = 0
    for dataset, shown in chosen.items():
        models = files_of(shown)
        if arguments.models:
            kept = (*arguments.models, arguments.reference)
            models = {name: files for name, files in models.items() if name in kept}
        for protocol in arguments.protocols:
            for line in comparisons(models, protocol, arguments.reference):
                line |= {"dataset": dataset, "protocol": protocol, "metric": METRIC}
                line |= {"study": arguments.study} if arguments.study else {}
                line["settings_hashes"] = hashes(shown, (arguments.reference, line["name"]))
                append_line("significance", line | origin)
                n_tests += 1
                print(dataset, protocol, line["name"], f"{line['difference']:+.4f}", line["p_holm"])
    if not n_tests:
        sys.exit(
            f"error: nothing to compare: in results/users are no values of {arguments.reference} "
            "and of another model for the same seed; runs done anew keep theirs"
        )


def files_of(shown: dict[str, list[dict[str, Any]]]) -> dict[str, dict[int, Path]]:
    """File of users' values by model and seed, of the lines that tables show; those that exist."""
    return {
        model: {line["seed"]: file for line in lines if (file := ROOT / line["per_user"]).is_file()}
        for model, lines in shown.items()
    }


def comparisons(
    models: dict[str, dict[int, Path]], protocol: str, reference: str
) -> list[dict[str, Any]]:
    """The reference's advantage over each other model, over the seeds of both."""
    own = models.get(reference, {})
    found = []
    for name, files in models.items():
        seeds = sorted(set(own) & set(files))
        if name != reference and seeds:
            ours, users = over_seeds([own[seed] for seed in seeds], protocol)
            theirs, others = over_seeds([files[seed] for seed in seeds], protocol)
            if users != others:
                raise DataError(f"{name} has other users or candidates than {reference}")
            (one,) = compare_values(by_place(theirs), [(name, by_place(ours))])
            found.append((asdict(one), seeds))
    corrected = holm([one["p"] for one, _ in found])
    return [
        {**one, "p_holm": p, "seeds": seeds, "reference_model": reference}
        for (one, seeds), p in zip(found, corrected, strict=True)
    ]


def by_place(values: np.ndarray) -> dict[str, float]:
    """Users have no names here, only places."""
    return {str(place): value for place, value in enumerate(values.tolist())}


if __name__ == "__main__":
    main()
