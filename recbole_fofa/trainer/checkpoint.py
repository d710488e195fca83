"""Checkpoints that hold tensors and plain values only, written whole or not at all."""

from __future__ import annotations

import hashlib
import pickle
import random
import warnings
from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

from recbole_fofa.errors import CheckpointError
from recbole_fofa.settings import of_older_version
from recbole_fofa.whole_file import whole_file

_KIND = "__kind__"
"""Key that marks an array or a sparse matrix that :func:`_plain` has taken apart."""
_CSR = ("data", "indices", "indptr")


class UntrustedPickleError(CheckpointError):
    """A file that could be read only by running what is in it."""


def save_checkpoint(state: dict[str, Any], path: str | Path) -> None:
    """Write to a temporary name, then rename, so that an older file is never half replaced.

    Raises:
        CheckpointError: If a value can be written only as code that would run when it is read.
        OutputError: If the file cannot be written; the older one is whole.
    """
    path = Path(path)
    state = {**state, "other_parameter": _plain(state["other_parameter"], "other_parameter")}
    with whole_file(path) as part, part.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # torch hides what the file said, such as that the disk is full, behind its own error.
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def best_checkpoint(path: str | Path) -> Path:
    """The path itself, or the newest best epoch in an output folder.

    Raises:
        CheckpointError: If a folder holds none.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    found = [file for pattern in ("*.pth", "saved/*.pth") for file in path.glob(pattern)]
    best = [file for file in found if not file.stem.endswith("-last")]
    if not best:
        raise CheckpointError(f"no checkpoint (.pth) in {path} or {path / 'saved'}")
    return max(best, key=lambda file: file.stat().st_mtime)


def load_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint without running anything that it may contain.

    Raises:
        CheckpointError: If the file is missing, damaged, or not one of ours.
    """
    try:
        with warnings.catch_warnings():  # about pickles that are refused anyway
            warnings.simplefilter("ignore", UserWarning)
            state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint at {path}") from None
    except Exception as error:  # damaged files end in errors of all kinds
        if isinstance(error, pickle.UnpicklingError):
            raise UntrustedPickleError(
                f"{path} holds more than tensors and plain values and was not loaded: files that "
                "RecBole itself wrote can run code. Train again with recbole_fofa; or, if you "
                "wrote the file yourself, make a bundle of it: run_recbole_fofa bundle "
                "--trust-pickle"
            ) from None
        raise CheckpointError(f"{path} is damaged or not a checkpoint: {error}") from None
    needed = {"state_dict": dict, "config": dict, "items": str, "other_parameter": object}
    if not isinstance(state, dict) or not all(
        name in state and isinstance(state[name], kind) for name, kind in needed.items()
    ):
        raise CheckpointError(f"{path} is not a checkpoint of recbole_fofa")
    return {
        **state,
        "config": of_older_version(state["config"]),
        "other_parameter": _restored(state["other_parameter"]),
    }


def _plain(value: Any, name: str) -> Any:
    """Tensors and plain values in the place of arrays and sparse matrices.

    RecBole's models also list modules here; their tensors are in the ``state_dict`` already.
    """
    if value is None or isinstance(value, (torch.Tensor, bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray):
        return {_KIND: "array", "values": torch.from_numpy(value)}
    if isinstance(value, np.generic):
        return value.item()
    if scipy.sparse.issparse(value):
        rows = value.tocsr()
        arrays = {part: torch.from_numpy(getattr(rows, part)) for part in _CSR}
        return {_KIND: value.format, "shape": [int(size) for size in value.shape], **arrays}
    if isinstance(value, Mapping):
        kept = {key: part for key, part in value.items() if not isinstance(part, torch.nn.Module)}
        return {key: _plain(part, f"{name}.{key}") for key, part in kept.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(part, f"{name}[{i}]") for i, part in enumerate(value))
    raise CheckpointError(
        f"{name} is a {type(value).__name__}, which no checkpoint can hold safely"
    )


def _restored(value: Any) -> Any:
    """Undo :func:`_plain`."""
    if isinstance(value, dict) and value.get(_KIND) == "array":
        return value["values"].cpu().numpy()
    if isinstance(value, dict) and _KIND in value:
        arrays = tuple(value[part].cpu().numpy() for part in _CSR)
        return scipy.sparse.csr_matrix(arrays, shape=value["shape"]).asformat(value[_KIND])
    if isinstance(value, dict):
        return {key: _restored(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_restored(part) for part in value)
    return value


def items_digest(dataset: Any) -> str:
    """Which item each row of the item table belongs to, as one short text."""
    tokens = dataset.field2id_token[dataset.iid_field]
    return hashlib.sha256("\n".join(map(str, tokens)).encode()).hexdigest()


def rows_digest(dataset: Any) -> str:
    """Who took what in the rows of a training set, as one short text."""
    digest = hashlib.sha256()
    for field in (dataset.uid_field, dataset.iid_field):
        if field is not None:
            digest.update(dataset.inter_feat[field].numpy().tobytes())
    return digest.hexdigest()


def warn_of_other_rows(path: str | Path, dataset: Any) -> None:
    """Say if a checkpoint was trained on other rows than the data set at hand has for training."""
    trained = load_checkpoint(path).get("rows")
    if trained is not None and trained != rows_digest(dataset):
        getLogger().warning(
            f"{path} was trained on other rows than those of {dataset.dataset_name} that are for "
            "training now: it may have been trained on what is tested here"
        )


def check_items(state: dict[str, Any], dataset: Any, path: str | Path) -> None:
    """Refuse a checkpoint whose item ids mean other items than those of the data at hand.

    Raises:
        CheckpointError: If the item tokens, or their order, differ.
    """
    if state["items"] is None:
        getLogger().warning(
            f"{path} does not say which items it was trained on: its lists are right only if "
            f"{dataset.dataset_name} is the same data, with its rows in the same order"
        )
    elif state["items"] != items_digest(dataset):
        raise CheckpointError(
            f"{path} was trained on other items than those of the data set {dataset.dataset_name}, "
            "or on rows in another order (ids are given by appearance): use the same files"
        )


def random_states(device: torch.device) -> dict[str, Any]:
    """States of torch's, numpy's and Python's generators as tensors and plain values.

    Args:
        device: Where training runs; a GPU's own generator is included.
    """
    kind, keys, position, has_gauss, cached = np.random.get_state()
    version, words, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "python": [version, list(words), gauss],
    }


def restore_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Undo what has been drawn since :func:`random_states`."""
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)
    kind, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
