"""Accuracy against compute: one trained model at several budgets, and a static network per depth.

One budget-aware ForwardOFA is trained per seed and its checkpoint is evaluated at each share of
the blocks' MACs; beside it stand static networks of 1 .. ``n_layers`` blocks, each trained alone
with the same settings. Full ranking, leave-one-out, the epoch with the best validation score. What
the choice of users is worth is told by the same structures, shuffled over all test users.

    python benchmarks/budget_curve.py --seeds 1 2 3 --n_layers 4
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from record import PROTOCOL, append_line, digest, provenance
from training import trained

from recbole_fofa.device_profile import DeviceProfile
from recbole_fofa.evaluator.evaluate import evaluate_on_devices
from recbole_fofa.evaluator.prepare import Options
from recbole_fofa.evaluator.result import SHUFFLED
from recbole_fofa.evaluator.structures import summarize_structures

MODELS = ["ForwardOFA", "static"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--n_layers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for seed in arguments.seeds:
        origin = provenance(arguments.threads)
        for line in lines_of(seed, arguments):
            append_line("budget_curve", line | origin)
            print(line["model"], seed, line["budget"], line["mean_macs"], line["ndcg@10"])


def lines_of(seed: int, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Each as soon as it is known."""
    if "ForwardOFA" in arguments.models:
        yield from budgets(seed, arguments)
    if "static" in arguments.models:
        for depth in range(1, arguments.n_layers + 1):
            yield static(seed, depth, arguments)


def budgets(seed: int, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One model, trained once, at every share of 1 .. ``n_layers`` blocks."""
    n_layers = arguments.n_layers
    settings = {"epochs": arguments.epochs, "n_layers": n_layers, "budget_aware": True}
    trainer, train, valid, test = trained(seed, **settings)
    for kept in range(1, n_layers + 1):
        share = kept / n_layers
        trainer.model.settings = trainer.model.settings.model_copy(update={"budget": share})
        line = measured("ForwardOFA", seed, share, trainer, valid, test)
        yield line
        yield line | shuffled(trainer.model, seed, train, test)


def static(seed: int, depth: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """A network of some depth, trained alone."""
    trainer, _, valid, test = trained(
        seed,
        epochs=arguments.epochs,
        n_layers=depth,
        use_controller=False,
        use_mapper=False,
        repeat_bias="shared",
    )
    share = depth / arguments.n_layers
    return measured(f"static, {depth} blocks", seed, share, trainer, valid, test)


def shuffled(model: Any, seed: int, train: Any, test: Any) -> dict[str, Any]:
    """What differs in a line where users have one another's structures, at equal cost."""
    free = [DeviceProfile(name="free")]
    options = Options(free, ages=(), seed=seed, times=False)
    with tempfile.TemporaryDirectory() as folder:
        rows = evaluate_on_devices(model, train, test, options, Path(folder)).rows
    (row,) = (row for row in rows if row.way == SHUFFLED)
    name = "ForwardOFA, structures shuffled over all users"
    return {"model": name, "valid_ndcg@10": None, "structures": row.counts, **row.metrics}


def measured(
    name: str, seed: int, budget: float, trainer: Any, valid: Any, test: Any
) -> dict[str, Any]:
    """Test metrics, mean MACs and structures of the model as it is now."""
    summary = summarize_structures(trainer.model, test)
    settings = trainer.model.settings.model_dump(exclude={"budget"})
    return {
        "dataset": "ml-100k",
        "model": name,
        "protocol": PROTOCOL,
        "seed": seed,
        "budget": budget,
        "settings_hash": digest(settings),
        "valid_ndcg@10": trainer.evaluate(valid, load_best_model=False)["ndcg@10"],
        "mean_macs": round(summary.mean_macs_share * sum(trainer.model.network.block_macs)),
        **trainer.evaluate(test, load_best_model=False),
        "structures": summary.counts,
    }


if __name__ == "__main__":
    main()
