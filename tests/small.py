"""Small models and data that several tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recbole_fofa.config.known_settings import known_settings
from recbole_fofa.model.network import AdaptiveNetwork
from recbole_fofa.quick_start import build_model, checked_config, prepare_data
from recbole_fofa.recommender.build import build_network
from recbole_fofa.registry import get_model, get_trainer
from recbole_fofa.settings import ForwardOFASettings

SIZES: dict[str, Any] = {
    "n_layers": 3,
    "n_heads": 2,
    "hidden_size": 8,
    "inner_size": 16,
    "mapper_rank": 4,
    "keep_bias": 0.0,
}


def small_network(**changes: Any) -> AdaptiveNetwork:
    """A network whose controller differs visibly between users."""
    network = build_network(ForwardOFASettings(**{**SIZES, **changes}), max_length=6)
    if network.controller is not None:
        torch.nn.init.normal_(network.controller.head.weight, std=1.0)
    return network.eval()


def batch(n_users: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Input embeddings ``[B, 6, 8]``, behaviour ``[B, 9, 8]`` and its lengths ``[B]``."""
    lengths = torch.arange(n_users) % 9 + 1
    return torch.randn(n_users, 6, 8), torch.randn(n_users, 9, 8), lengths


def write_cycle(folder: Path, n_users: int = 60, length: int = 12, n_items: int = 15) -> Path:
    """Users who walk the same ring of items: the next item is a function of the last one."""
    folder = folder / "cycle"
    folder.mkdir(parents=True)
    rows = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(n_users):
        for step in range(length):
            rows.append(f"u{user}\ti{(user * 7 + step * 2) % n_items}\t{step}")
    path = folder / "cycle.inter"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def trainer_of(
    tmp_path: Path, model: str | None = None, **changes: Any
) -> tuple[Any, tuple[Any, Any, Any]]:
    """A trainer on the ring with a new model, and its three loaders."""
    settings = cycle_settings(tmp_path, **changes)
    config = checked_config(model, config_dict=known_to(model or "ForwardOFA", settings))
    loaders = prepare_data(config)
    torch.manual_seed(3)
    return get_trainer(config)(config, build_model(config, loaders[0])), loaders


def planted_settings(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """Long enough to find the ring's rule."""
    long_and_dry = {
        "epochs": 40,
        "learning_rate": 0.01,
        "hidden_dropout_prob": 0.0,
        "attn_dropout_prob": 0.0,
        "eval_step": 20,
    }
    return cycle_settings(tmp_path, **long_and_dry, **changes)


def cycle_settings(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """Settings of a run of seconds on the ring."""
    dataset = tmp_path / "data" / "cycle" / "cycle.inter"
    if not dataset.exists():
        write_cycle(tmp_path / "data")
    settings = {
        "dataset": str(dataset),
        "output_dir": str(tmp_path / "out"),
        "quiet": True,
        "hidden_size": 16,
        "inner_size": 32,
        "n_layers": 2,
        "MAX_ITEM_LIST_LENGTH": 8,
        "session_length": 5,
        "adapt_seq_length": 8,
        "train_batch_size": 32,
        "topk": [10],
        "valid_metric": "NDCG@10",
        "metrics": ["NDCG", "Hit"],
        "epochs": 2,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    }
    return {**settings, **changes}


def known_to(model: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Those of the settings that a model has."""
    known = known_settings(get_model(model), "")
    return {name: value for name, value in settings.items() if name in known}
