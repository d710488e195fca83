"""Shipped settings for a kind of data (``properties/preset/NAME/MODEL.yaml``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbole_fofa.config.known_settings import suggestion
from recbole_fofa.errors import ConfigError
from recbole_fofa.packaged import properties_folder


def preset_files(preset: str, models: Sequence[str]) -> list[Path]:
    """The files of a preset for a model.

    Args:
        preset: Its name.
        models: Names of the model's parents and of the model, which comes last.

    Returns:
        At least one file, in the order of the models.

    Raises:
        ConfigError: If no preset of this name is for any of these models.
    """
    files = [
        file
        for model in models
        for file in sorted((properties_folder() / "preset").glob(f"*/{model}.yaml"))
    ]
    names = sorted({file.parent.name for file in files})
    if not names:
        raise ConfigError(f"preset: {models[-1]} has none; leave it out")
    if preset not in names:
        near = suggestion(preset, names) or f"; there are {' and '.join(names)}"
        raise ConfigError(f"preset: {models[-1]} has none that is called {preset!r}{near}")
    return [file for file in files if file.parent.name == preset]
