"""Checkpoints that hold tensors and plain values only, written whole or not at all."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_fofa.errors import CheckpointError


def save_checkpoint(state: dict[str, Any], path: str | Path) -> None:
    """Write to a temporary name, then rename, so that an older file is never half replaced."""
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint without running anything that it may contain.

    Raises:
        CheckpointError: If the file is missing, damaged, or not one of ours.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint at {path}") from None
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} holds more than tensors and plain values and was not loaded: files that "
            "RecBole itself wrote can run code. Train again with recbole_fofa"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged or not a checkpoint: {error}") from None
    if not isinstance(state, dict) or "state_dict" not in state or "config" not in state:
        raise CheckpointError(f"{path} is not a checkpoint of recbole_fofa")
    return state


def random_states() -> dict[str, Any]:
    """States of torch's, numpy's and Python's generators as tensors and plain values."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    version, words, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "python": [version, list(words), gauss],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Undo what has been drawn since :func:`random_states`."""
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"]:
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    kind, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
