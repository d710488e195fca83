"""A bundle from a model that was just trained, or read from a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.utils import ModelType

from recbole_fofa.config.config import FofaConfig
from recbole_fofa.data.dataset import POSITION
from recbole_fofa.data.sequences import Histories
from recbole_fofa.errors import ConfigError
from recbole_fofa.serving.model_bundle import ModelBundle
from recbole_fofa.serving.recommend import load

# Where things were, and what came after training: no part of the model.
_LEFT_OUT = frozenset(
    """data_path output_dir checkpoint_dir resume_from hooks device_eval device_profiles
    device_candidates gpu_id benchmark_filename dataset_save_path dataloaders_save_path""".split()
)


def write_bundle(
    folder: Path, model: Any, config: FofaConfig, dataset: Any, metrics: dict[str, Any]
) -> str:
    """Write a bundle, then load it and ask it for a list, so that a folder that is there works.

    Args:
        folder: Where; a bundle that is there is replaced.
        model: The trained model.
        config: Its settings.
        dataset: The training split.
        metrics: Results to keep beside it, as JSON can hold them.

    Returns:
        The fingerprint.

    Raises:
        ConfigError: If the model cannot answer for a history alone; nothing is written.
        OSError: If the folder cannot be written, or is there and no bundle.
    """
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        raise ConfigError(f"{config['model']} reads no histories, so that it has no bundle")
    other = model.other_parameter()
    try:
        json.dumps(other)
    except (TypeError, ValueError):
        raise ConfigError(f"{config['model']} keeps more than tensors and plain values") from None
    settings = {key: value for key, value in config.settings().items() if key not in _LEFT_OUT}
    tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field]]
    items = _training_items(dataset)
    bundle = ModelBundle(
        model=config["model"],
        config={**settings, "dataset": config["dataset"]},
        items=tokens[1:],
        counts=np.bincount(items, minlength=len(tokens))[1:].tolist(),
        metrics=metrics,
        other=other,
        weights=model.state_dict(),
    )
    return bundle.write(folder, check=lambda part: _check(part, config, tokens[1]))


def _training_items(dataset: Any) -> NDArray[np.int64]:
    """Item of each training interaction; a user's first one is in histories alone."""
    histories: Histories | None = getattr(dataset, "histories", None)
    if histories is None:
        return np.asarray(dataset.inter_feat[dataset.iid_field])
    places = histories.with_firsts(dataset.inter_feat[POSITION].numpy())
    return histories.items[places]


def _check(bundle: Path, config: FofaConfig, token: str) -> None:
    """Build the model from the bundle and ask it for one list."""
    try:
        with torch.random.fork_rng(devices=[]):
            load(bundle, device="cpu", model=config.model_class).recommend([[token]], 1)
    except Exception as error:  # whatever a model of somebody else's raises
        raise ConfigError(f"{config['model']} cannot answer for a history alone: {error}") from None
