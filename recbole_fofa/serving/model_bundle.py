"""A trained model as one folder: weights, vocabulary, settings and metrics, with checksums.

``weights.safetensors``   every tensor of the model
``vocabulary.json``       token of each item, and how often it occurs in the training data
``config.json``           settings that build the model again; no paths
``metrics.json``          validation and test results
``manifest.json``         format, model, versions, checksums and the fingerprint of all of it
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from recbole_fofa.errors import CheckpointError, OutputError
from recbole_fofa.settings import of_older_version
from recbole_fofa.whole_file import write_whole

FORMAT = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
PARTS = ("vocabulary", "config", "metrics")
_PACKAGES = ("recbole", "torch", "numpy")


@dataclass(frozen=True)
class ModelBundle:
    """What a bundle holds.

    Attributes:
        model: Name of the model.
        config: Settings as a ``config_dict``.
        items: Token of each item; row ``i`` of the item table belongs to ``items[i - 1]``.
        counts: Occurrences of each item in the training data.
        metrics: Results of the training run.
        other: States of the model that are no tensors.
        weights: Tensors by name.
    """

    model: str
    config: dict[str, Any]
    items: Sequence[str]
    counts: Sequence[int]
    metrics: dict[str, Any]
    other: dict[str, Any] | None
    weights: Mapping[str, torch.Tensor]

    def write(self, folder: Path, check: Callable[[Path], None] = lambda part: None) -> str:
        """Write the folder, whole or not at all; a bundle that is there is replaced.

        Args:
            folder: Where; see :func:`check_free`.
            check: Called with the finished folder under a temporary name; what it raises leaves
                an older bundle in its place.

        Returns:
            The fingerprint: 16 characters over all that is in the bundle.

        Raises:
            OSError: If the folder cannot be written, or is there and no bundle; what was there
                stays.
        """
        folder = Path(os.path.realpath(folder))  # "." has no name, and a link stays one
        check_free(folder)
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            mark = self._write_files(part)
            check(part)
            _replace_folder(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return mark

    def _write_files(self, part: Path) -> str:
        """All files, into a new folder; the fingerprint."""
        part.mkdir(parents=True)
        # Clones: tensors that share memory cannot be written.
        weights = {name: value.detach().cpu().clone() for name, value in self.weights.items()}
        write_whole(part / WEIGHTS, save({k: v.contiguous() for k, v in weights.items()}))
        vocabulary = {"items": list(self.items), "counts": list(map(int, self.counts))}
        for name, content in zip(PARTS, (vocabulary, self.config, self.metrics), strict=True):
            write_whole(part / f"{name}.json", _json(content))
        files = {path.name: _digest(path.read_bytes()) for path in sorted(part.iterdir())}
        manifest = {
            "format": FORMAT,
            "model": self.model,
            "other": self.other,
            "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
            "files": files,
        }
        manifest["fingerprint"] = _digest(_json(manifest))[:16]
        write_whole(part / MANIFEST, _json(manifest))
        return str(manifest["fingerprint"])

    @classmethod
    def read(cls, folder: Path) -> ModelBundle:
        """Read a folder without running anything that it may contain.

        Raises:
            CheckpointError: If it is missing, damaged or of an unknown format; says which file.
        """
        manifest = _manifest(folder)
        if set(manifest["files"]) != {WEIGHTS, *(f"{name}.json" for name in PARTS)}:
            raise CheckpointError(f"{folder / MANIFEST} names other files than a bundle has")
        for name, digest in manifest["files"].items():
            if _digest(_bytes(folder / name)) != digest:
                raise CheckpointError(f"{folder / name} is damaged: its checksum differs")
        vocabulary, config, metrics = (_read_json(folder / f"{name}.json") for name in PARTS)
        try:
            weights = load_file(folder / WEIGHTS)
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{folder / WEIGHTS} is damaged: {error}") from None
        items, counts = vocabulary.get("items"), vocabulary.get("counts")
        if not _are(items, str) or not _are(counts, int) or len(items) != len(counts):
            raise CheckpointError(f"{folder / 'vocabulary.json'} is no list of items and counts")
        model, other = manifest["model"], manifest["other"]
        config = of_older_version(config)
        return cls(model, config, items, counts, metrics, other, weights)


def check_free(folder: Path) -> None:
    """See that a bundle can take this place, where there may be nothing else than another one.

    Raises:
        OutputError: There is a file, or a folder with anything that no bundle has.
    """
    if not folder.exists():
        return
    ours = {MANIFEST, WEIGHTS, *(f"{name}.json" for name in PARTS)}
    if not folder.is_dir() or any(path.name not in ours for path in folder.iterdir()):
        raise OutputError(f"{folder} is there and no bundle: it is not replaced, name a new folder")


def find_bundle(path: Path) -> Path:
    """The path itself, or the newest bundle in a run's output folder."""
    if (path / MANIFEST).is_file() or not path.is_dir():
        return path
    found = [file for name in ("*-bundle", "saved/*-bundle") for file in path.glob(name)]
    return max(found, key=lambda folder: folder.stat().st_mtime, default=path)


def fingerprint(folder: Path) -> str:
    """The fingerprint that a bundle's manifest gives."""
    return str(_manifest(folder)["fingerprint"])


def _manifest(folder: Path) -> dict[str, Any]:
    if folder.is_file():
        raise CheckpointError(
            f"{folder} is a file, not a bundle. From a checkpoint make one with: "
            f"python run_recbole_fofa.py bundle --checkpoint {folder} --output_dir FOLDER"
        )
    if not (folder / MANIFEST).is_file():
        raise CheckpointError(f"no bundle in {folder}: it has no {MANIFEST}")
    manifest = _read_json(folder / MANIFEST)
    if manifest.get("format", FORMAT) != FORMAT:
        raise CheckpointError(
            f"{folder} has format {manifest['format']}, this version reads {FORMAT}: update "
            "recbole_fofa, or make the bundle again"
        )
    rest = {key: value for key, value in manifest.items() if key != "fingerprint"}
    is_whole = isinstance(rest.get("files"), dict) and {"model", "other"} <= set(rest)
    if manifest.get("fingerprint") != _digest(_json(rest))[:16] or not is_whole:
        raise CheckpointError(f"{folder / MANIFEST} is damaged: its fingerprint differs")
    return manifest


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_bytes(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is damaged: it holds no names and values")
    return content


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _are(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)


def _replace_folder(new: Path, folder: Path) -> None:
    """Rename; an older folder is moved aside first, since only empty ones can be replaced."""
    prefix = f".{folder.name}-"
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=prefix) as aside:
        old = Path(aside) / folder.name
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(new, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise
