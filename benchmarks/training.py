"""Models for the benchmarks: trained in this process, with the epoch of the best validation."""

from __future__ import annotations

import tempfile
from typing import Any

import torch

from recbole_fofa.quick_start import build_model, checked_config, prepare_data
from recbole_fofa.registry import get_trainer


def trained(seed: int, model: str | None = None, **changes: Any) -> tuple[Any, Any, Any, Any]:
    """A trainer whose model is that of the best epoch, and its loaders: training to test.

    Args:
        seed: Of data order, initial values and training.
        model: Name; ForwardOFA if not given.
        changes: Settings other than the defaults.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "seed": seed,
            "output_dir": folder,
            "quiet": True,
            "metric_decimal_place": 6,
            "valid_metric": "NDCG@10",
            **changes,
        }
        config = checked_config(model, config_dict=settings)
        train, valid, test = prepare_data(config)
        torch.manual_seed(seed)
        trainer = get_trainer(config)(config, build_model(config, train))
        trainer.fit(train, valid)
        trainer.evaluate(valid)  # loads the best epoch
    return trainer, train, valid, test
