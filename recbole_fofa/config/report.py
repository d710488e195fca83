"""Showing settings: where each came from, what was changed, and how to build the same again."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import yaml
from recbole.config import Config

from recbole_fofa.config.process_checks import LAUNCH_KEYS
from recbole_fofa.config.sources import DERIVED, plain, writable
from recbole_fofa.whole_file import write_whole

# RecBole's defaults of these are no wish of the user's: giving them would change what is derived.
DERIVED_UNLESS_GIVEN = frozenset(
    ("gpu_id", "checkpoint_dir", "train_neg_sample_args", "load_col", "data_path", "MODEL_TYPE")
)
# How a run began is no part of what it is; what a preset has set is kept key by key.
_NEVER_KEPT = frozenset(("resume_from", "preset", *LAUNCH_KEYS))


class ReportedConfig(Config):
    """The part of ``FofaConfig`` that shows settings; it is not built on its own.

    Attributes:
        sources: Where each setting came from.
    """

    parameters: dict[str, list[str]]
    sources: dict[str, str]
    internal_config_dict: dict[str, Any]
    final_config_dict: dict[str, Any]
    model: str
    _settings: dict[str, Any]
    _place: dict[str, str]
    _internal_sources: dict[str, str]
    _external_sources: dict[str, str]

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.sources[key] = "code"

    def settings(self) -> dict[str, Any]:
        """Return the settings as a ``config_dict`` that builds this config again.

        Defaults are included, so that the copy does not change when they do; what is derived is
        not, nor how the run began (``resume_from``, ``preset``, ``nproc``). A model that was given
        as a class must be given again.
        """
        kept = {
            key: plain(value)
            for key, value in self._settings.items()
            if key not in _NEVER_KEPT
            and (key in self._external_sources or key not in DERIVED_UNLESS_GIVEN)
        }
        return {**kept, "model": self.model, **self._place}

    def resolved(self) -> dict[str, dict[str, Any]]:
        """Return every setting's final value, as YAML can hold it, and its source."""
        return {
            key: {"value": writable(value), "source": self.sources.get(key, DERIVED)}
            for key, value in sorted(self.final_config_dict.items())
        }

    def write_resolved(self, path: str | Path) -> None:
        """Write ``resolved()`` to a YAML file; a reader never sees half of it.

        Args:
            path: The file. Its folder is made if need be.

        Raises:
            OutputError: The file cannot be written.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(self.resolved(), sort_keys=True, allow_unicode=True)
        write_whole(path, text.encode())

    def changes(self) -> list[str]:
        """Say, one line each, which settings the user changed and where."""
        lines = []
        for key in sorted(self._external_sources):
            value, default = self.final_config_dict.get(key), self.internal_config_dict.get(key)
            if value != default:
                note = f", default {default!r}" if key in self.internal_config_dict else ""
                lines.append(f"{key} = {value!r} (from {self.sources[key]}{note})")
        return lines

    def log_changes(self) -> None:
        """Log ``changes()``; call it once the logger is set up."""
        for line in self.changes():
            logging.getLogger().info(line)


def not_writable(folder: Path) -> str:
    """Why a folder cannot be made or written to; nothing is made. Empty if it can."""
    try:
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
    except (OSError, ValueError) as error:
        return str(error)
    if not nearest.is_dir():
        return f"{nearest} is not a folder"
    return "" if os.access(nearest, os.W_OK | os.X_OK) else f"no permission to write to {nearest}"
