"""What a plan asks for: searches of settings, then runs with what was chosen."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from record import digest, read_lines


def searches(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every search of a plan: data set, model, fixed settings, space and number of trials."""
    if "search" not in plan:
        return
    for dataset, path in plan["datasets"].items():
        for model, own in plan["models"].items():
            own = dict(own)
            space = own.pop("space", plan["search"]["space"])
            if own.pop("search", True):
                settings = {**plan.get("common", {}), **own}
                search = {"settings": settings, "space": space, "trials": plan["search"]["trials"]}
                key = digest({"dataset": dataset, **search})
                yield {"dataset": dataset, "path": path, "model": model, "hash": key, **search}


def runs(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every run of a plan: data set, model, seed and all settings that are not defaults."""
    chosen = {(line["dataset"], line["hash"]): line["chosen"] for line in read_lines("tuning")}
    searched = {(one["dataset"], one["model"]): one for one in searches(plan)}
    for dataset, path in plan["datasets"].items():
        for model, own in plan["models"].items():
            settings = {"dataset": path, **plan.get("common", {}), **own}
            if (dataset, model) in searched:
                key = dataset, searched[dataset, model]["hash"]
                if key not in chosen:
                    sys.exit(f"{model} was not tuned on {dataset}: run benchmarks/tuning.py first")
                settings |= chosen[key]
            for name in ("space", "search"):
                settings.pop(name, None)
            for seed in plan["seeds"]:
                yield {
                    "dataset": dataset,
                    "model": model,
                    "seed": seed,
                    "settings": settings,
                    "settings_hash": digest({**settings, "dataset": dataset}),
                }
