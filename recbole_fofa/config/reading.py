"""Reading settings: RecBole's steps, with a safe parser and this package's YAML last."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from recbole_fofa.compat import add_dok_update, add_numpy_aliases
from recbole_fofa.config.known_settings import parent_names, recbole_properties
from recbole_fofa.config.presets import preset_files
from recbole_fofa.config.report import ReportedConfig
from recbole_fofa.config.sources import (
    COMMAND_LINE,
    CONFIG_DICT,
    FofaLoader,
    read_arguments,
    read_dict,
    read_file,
)
from recbole_fofa.errors import ConfigError
from recbole_fofa.packaged import properties_folder

_PATHS = ("output_dir", "checkpoint_dir", "resume_from")


class ReadingConfig(ReportedConfig):
    """The part of ``FofaConfig`` that reads settings; it is not built on its own."""

    faults: list[str]
    _arguments: list[str]
    _layers: list[tuple[str, dict[str, Any]]]
    _model_is_known: bool

    def compatibility_settings(self) -> None:
        """Add numpy's removed names; unlike RecBole's method, overwrite none."""
        add_numpy_aliases()
        add_dok_update()

    def _init_parameters_category(self) -> None:
        super()._init_parameters_category()
        # RecBole appends to these lists, which all configs of the process share.
        self.parameters = {category: list(keys) for category, keys in self.parameters.items()}

    def _build_yaml_loader(self) -> type[yaml.SafeLoader]:
        return FofaLoader

    def _load_config_files(self, file_list: Any) -> dict[str, Any]:
        files = [file_list] if isinstance(file_list, (str, Path)) else list(file_list or ())
        merged: dict[str, Any] = {}
        for file in files:
            try:
                values = read_file(file)
            except ConfigError as error:
                self.faults += error.faults
                continue
            self._layers.append((f"file {file}", values))
            merged.update(values)
        return merged

    def _load_variable_config_dict(self, config_dict: Any) -> dict[str, Any]:
        odd = [key for key in config_dict or () if not isinstance(key, str)]
        self.faults += [f"the key {key!r} of config_dict must be text" for key in odd]
        values = read_dict({k: v for k, v in (config_dict or {}).items() if k not in odd})
        self._layers.append((CONFIG_DICT, values))
        return values

    def _load_cmd_line(self) -> dict[str, Any]:
        values, faults = read_arguments(self._arguments)
        self.faults += faults
        self._layers.append((COMMAND_LINE, values))
        return values

    def _merge_external_config_dict(self) -> None:
        merged: dict[str, Any] = {}
        for source, values in self._layers:
            update_settings(merged, values)
            self._external_sources.update(dict.fromkeys(values, source))
        for key in _PATHS:
            if isinstance(merged.get(key), str):
                merged[key] = os.path.expanduser(merged[key])
        if isinstance(merged.get("metrics"), str):
            merged["metrics"] = [name.strip() for name in merged["metrics"].split(",")]
        self.external_config_dict = merged

    def _update_internal_config_dict(self, file: str) -> dict[str, Any] | None:
        values: dict[str, Any] | None = super()._update_internal_config_dict(file)
        path, recboles = Path(file).resolve(), recbole_properties().resolve()
        owner = "recbole " if path.is_relative_to(recboles) else ""
        folder = recboles if owner else properties_folder().resolve()
        label = f"{owner}properties/{path.relative_to(folder).as_posix()}"
        self._internal_sources.update(dict.fromkeys(values or (), label))
        return values

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)
        # A user's class that is derived from a model has that model's settings too.
        parents = parent_names(model_class)[:0:-1] if self._model_is_known else []
        recboles, own = recbole_properties() / "model", properties_folder()
        if parents and not (recboles / f"{model}.yaml").is_file():
            for parent in parents:
                self._read_if_there(recboles / f"{parent}.yaml")
        # This package's files come last, for RecBole's quick-start files to lose against them.
        self._read_if_there(own / "overall.yaml")
        for name in [*parents, model]:
            self._read_if_there(own / "model" / f"{name}.yaml")
        self._read_if_there(own / "dataset" / f"{dataset}.yaml")
        if self._model_is_known and isinstance(self.external_config_dict.get("preset"), str):
            self._read_preset(self.external_config_dict["preset"], [*parents, model])

    def _read_preset(self, preset: str, models: list[str]) -> None:
        try:
            for file in preset_files(preset, models):
                self._update_internal_config_dict(str(file))
        except ConfigError as error:
            self.faults += error.faults

    def _read_if_there(self, file: Path) -> None:
        if file.is_file():
            self._update_internal_config_dict(str(file))


def update_settings(values: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Add settings; ``eval_args`` is merged, so that a new mode keeps the split."""
    old = values.get("eval_args")
    for key, value in new.items():
        values[key] = copy.deepcopy(value)
    if isinstance(old, dict) and isinstance(new.get("eval_args"), dict):
        values["eval_args"] = {**old, **copy.deepcopy(new["eval_args"])}
