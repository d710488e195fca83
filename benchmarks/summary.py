"""The one table that opens the README: ForwardOFA against the best baseline on each data set.

python benchmarks/summary.py    # prints it
"""

from __future__ import annotations

from statistics import mean
from typing import Any

from head_to_head_tables import latest_by_dataset, latest_tests, ours_of
from table import Line, seeds_of, table

WITH_BIAS = ("static backbone, repeat bias", "static backbone, input 20, repeat bias")
"""The backbone with what is ours and needs no adaptation, with its own input and with ForwardOFA's;
shown apart, as they are no baselines."""
FULL_NETWORK = "static backbone"
HEAD = (
    "data | seeds | ForwardOFA | best baseline | gain | p (Holm) | without history: ForwardOFA | "
    "best baseline | static with repeat bias, input 50, 20: all items | without history | "
    "MACs a request"
)


def summary() -> str:
    """Test NDCG@10 where all items are ranked, then where those of the history are left out.

    A mean over other seeds than ForwardOFA's names them.
    """
    rows = []
    for dataset, models in latest_by_dataset().items():
        tests, ours = latest_tests(dataset), ours_of(models)
        if ours is not None and tests:
            rows.append([dataset, *_row(ours, models, tests)])
    return table(HEAD, rows)


def _row(ours: str, models: dict[str, list[Line]], tests: dict[Any, Line]) -> list[str]:
    baselines = [name for name in models if not name.startswith(("ForwardOFA", *WITH_BIAS))]
    own = _score(models[ours], "full")
    best = max(baselines, key=lambda name: _score(models[name], "full"))
    masked = max(baselines, key=lambda name: _score(models[name], "masked"))
    reached = _score(models[best], "full")
    test = tests.get(("full", best))
    return [
        seeds_of(models[ours]),
        f"**{own:.4f}**" if own > reached else f"{own:.4f}",
        f"{reached:.4f} ({_named(best, models, ours)})",
        _gain(models[ours], models[best]),
        "-" if test is None else f"{test['p_holm']:.2g} ({_seeds(test['seeds'])})",
        f"{_score(models[ours], 'masked'):.4f}",
        f"{_score(models[masked], 'masked'):.4f} ({_named(masked, models, ours)})",
        *(_with_bias(models, ours, protocol) for protocol in ("full", "masked")),
        _macs(models[ours], models.get(FULL_NETWORK)),
    ]


def _score(lines: list[Line], protocol: str) -> float:
    return mean(line["protocols"][protocol]["ndcg@10"] for line in lines)


def _gain(ours: list[Line], theirs: list[Line]) -> str:
    """Relative, on the seeds that both have."""
    seeds = {line["seed"] for line in ours} & {line["seed"] for line in theirs}
    own, other = ([line for line in lines if line["seed"] in seeds] for lines in (ours, theirs))
    return f"{_score(own, 'full') / _score(other, 'full') - 1:+.1%}" if seeds else "-"


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _named(model: str, models: dict[str, list[Line]], ours: str) -> str:
    """A model's name, with its seeds where they are others than ours."""
    return model + _other_seeds(models[model], models[ours], ", {}")


def _other_seeds(lines: list[Line], own: list[Line], form: str) -> str:
    seeds, ours = (sorted(line["seed"] for line in found) for found in (lines, own))
    return form.format(_seeds(seeds)) if seeds != ours else ""


def _with_bias(models: dict[str, list[Line]], ours: str, protocol: str) -> str:
    def cell(name: str) -> str:
        if name not in models:
            return "-"
        seeds = _other_seeds(models[name], models[ours], " ({})")
        return f"{_score(models[name], protocol):.4f}{seeds}"

    return ", ".join(map(cell, WITH_BIAS))


def _macs(ours: list[Line], full: list[Line] | None) -> str:
    own = mean(line["mean_macs"] for line in ours)
    share = f" ({own / full[0]['mean_macs']:.0%})" if full else ""
    return f"{own / 1e6:.2f} M{share}"


if __name__ == "__main__":
    print(f"{summary()}\n")
