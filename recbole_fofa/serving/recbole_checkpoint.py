"""Checkpoints that RecBole wrote: pickles, which are read only where that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from recbole_fofa.config.known_settings import known_settings
from recbole_fofa.config.report import DERIVED_UNLESS_GIVEN
from recbole_fofa.errors import CheckpointError
from recbole_fofa.trainer.checkpoint import UntrustedPickleError, load_checkpoint


def load_recbole_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint that RecBole wrote; one of ours is read as always.

    **It is unpickled, which can run any code**: only for files whose origin is known.

    Raises:
        CheckpointError: If the file is missing, damaged, or neither RecBole's nor ours.
    """
    try:
        return load_checkpoint(path)
    except UntrustedPickleError:
        pass
    try:
        state = torch.load(path, map_location="cpu", weights_only=False)
        config = state["config"]
        settings = {**config.internal_config_dict, **config.external_config_dict}
        # RecBole also notes the words of whatever command line it ran under.
        known = known_settings(config.model_class, config.dataset)
        settings = {
            name: value
            for name, value in settings.items()
            if name in known
            and (name in config.external_config_dict or name not in DERIVED_UNLESS_GIVEN)
        }
        weights, other = state["state_dict"], state["other_parameter"]
    except Exception as error:  # whatever unpickling met
        raise CheckpointError(f"{path} is no checkpoint of RecBole: {error!r}") from None
    settings |= {"model": config.model, "dataset": config.dataset}
    return {"config": settings, "state_dict": weights, "other_parameter": other, "items": None}
