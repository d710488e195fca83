"""Accuracy against compute: one trained model at several budgets, and a static network per depth.

One budget-aware ForwardOFA is trained per seed and its checkpoint is evaluated at each share of
the blocks' MACs; beside it stand static networks of 1 .. ``n_layers`` blocks, each trained alone
with the same settings. Full ranking, leave-one-out, the epoch with the best validation score.

    python benchmarks/budget_curve.py --seeds 1 2 3 --n_layers 4
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import torch
from record import PROTOCOL, append_line, digest, provenance
from training import trained

from recbole_fofa.evaluator.structures import shuffled_structures, summarize_structures

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
    trainer, *data = trained(seed, epochs=arguments.epochs, n_layers=n_layers, budget_aware=True)
    for kept in range(1, n_layers + 1):
        share = kept / n_layers
        trainer.model.settings = trainer.model.settings.model_copy(update={"budget": share})
        yield measured("ForwardOFA", seed, share, trainer, *data)
        with shuffled_structures(trainer.model, seed):
            name = "ForwardOFA, structures shuffled over users"
            yield measured(name, seed, share, trainer, *data)


def static(seed: int, depth: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """A network of some depth, trained alone."""
    trainer, *data = trained(
        seed,
        epochs=arguments.epochs,
        n_layers=depth,
        use_controller=False,
        use_mapper=False,
        repeat_bias="shared",
    )
    return measured(f"static, {depth} blocks", seed, depth / arguments.n_layers, trainer, *data)


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
