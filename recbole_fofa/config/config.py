"""The settings of a run: RecBole's ``Config``, read without surprises and checked beforehand."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import recbole
import torch
from pydantic import BaseModel, ValidationError
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType, ModelType

from recbole_fofa.compat import check_versions
from recbole_fofa.config.checks import collect_faults, read_settings
from recbole_fofa.config.faults import Settings
from recbole_fofa.config.known_settings import settings_class
from recbole_fofa.config.process_checks import launch_of
from recbole_fofa.config.reading import ReadingConfig, update_settings
from recbole_fofa.config.sources import DERIVED, is_whole_number
from recbole_fofa.data.location import DatasetFiles, locate
from recbole_fofa.errors import ConfigError, DataError, FofaError
from recbole_fofa.processes import Launch, place
from recbole_fofa.run_settings import RunSettings

DEFAULT_MODEL = "ForwardOFA"
DEFAULT_DATASET = "ml-100k"
_CALL, _DEFAULT = "argument", "default"
_RECBOLE_ERRORS = (ValueError, TypeError, KeyError, AttributeError, RuntimeError)


class FofaConfig(ReadingConfig):
    """RecBole's config with checks, sources and no ``eval``.

    Priority: command line > ``config_dict`` > files (later ones win) > YAML of the dataset, the
    model and the package > RecBole's own YAML. ``eval_args`` is merged key by key.

    Args:
        model: A model's name or class; the other sources, then ``ForwardOFA``, if None.
        dataset: A name, a folder or an ``.inter`` file; else as for the model, then ``ml-100k``.
        config_file_list: YAML files.
        config_dict: Settings; texts in it are parsed as on the command line.
        arguments: Command-line words. ``sys.argv`` is never read.
        raise_faults: Whether faults stop here. If not, they are kept in ``faults`` and the settings
            at fault have RecBole's defaults, so that data can be checked before all is reported.
        needs_data: Whether the dataset's files must be there; a model that was saved with its
            vocabulary does without.

    Attributes:
        faults: Messages of what is wrong.
        sources: Where each setting came from.
        data_files: The files of the dataset; None if they were not found.
        run_settings: Typed settings of the run.
        model_settings: Typed settings of a model of this package; None for other models.
        launch: Processes that are still to be started for this run; None if it is one, or they are
            running already.

    Raises:
        ConfigError: With all faults, if there are any.
    """

    run_settings: RunSettings
    model_settings: BaseModel | None

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | Path | None = None,
        config_file_list: Sequence[str | Path] | str | Path | None = None,
        config_dict: Mapping[str, Any] | None = None,
        arguments: Sequence[str] | None = None,
        raise_faults: bool = True,
        needs_data: bool = True,
    ) -> None:
        check_versions()
        self._needs_data = needs_data
        self.faults: list[str] = []
        self.sources: dict[str, str] = {}
        self._arguments = list(arguments or ())
        self._layers: list[tuple[str, dict[str, Any]]] = []
        self._internal_sources: dict[str, str] = {}
        self._external_sources: dict[str, str] = {}
        self._model_is_known = True
        super().__init__(model, dataset, config_file_list, config_dict)
        for key in self.final_config_dict:
            self.sources.setdefault(key, _DEFAULT if key in ("model", "dataset") else DERIVED)
        self.launch: Launch | None = None if self.faults else launch_of(self.final_config_dict)
        if raise_faults and self.faults:
            raise ConfigError(self.faults)

    def _get_model_and_dataset(self, model: Any, dataset: Any) -> tuple[str, type, str]:
        for key, value in (("model", model), ("dataset", dataset)):
            if value is not None:
                self._external_sources[key] = _CALL
        model = self.external_config_dict.get("model") if model is None else model
        dataset = self.external_config_dict.get("dataset") if dataset is None else dataset
        name, model_class = self._find_model(DEFAULT_MODEL if model is None else model)
        return name, model_class, self._find_dataset(str(dataset or DEFAULT_DATASET))

    def _find_model(self, model: Any) -> tuple[str, type]:
        from recbole_fofa.registry import get_model

        if isinstance(model, type):
            if isinstance(getattr(model, "type", None), ModelType):
                return model.__name__, model
            self.faults.append(f"model {model.__name__} is no recommender: it lacks RecBole's type")
        else:
            try:
                return str(model), get_model(str(model))
            except FofaError as error:
                self.faults += error.faults
        # Stands in so that the other faults are found too; the run stops before it is built.
        self._model_is_known = False
        return "SASRec", SequentialRecommender

    def _find_dataset(self, dataset: str) -> str:
        # Without a data_path RecBole takes ml-100k from its own wheel, and so does this class.
        data_path = self.external_config_dict.get("data_path")
        self._folder: str | None = None
        self._place: dict[str, str] = {"dataset": dataset}
        self.data_files: DatasetFiles | None = None
        if not self._needs_data:
            return dataset
        if dataset == DEFAULT_DATASET and data_path is None:
            self.data_files = locate(dataset, Path(recbole.__file__).parent / "dataset_example")
            return dataset
        benchmark = bool(self.external_config_dict.get("benchmark_filename"))
        try:
            files = locate(dataset, str(data_path or "dataset/"), benchmark)
        except DataError as error:
            self.faults += error.faults
            return Path(dataset).name.removesuffix(".gz").removesuffix(".inter")
        self.data_files = files
        self._folder = str(files.folder)
        parent = files.folder.parent if files.known else files.folder
        self._place = {"dataset": files.name, "data_path": str(parent)}
        return files.name

    # Deriving and checking

    def _get_final_config_dict(self) -> dict[str, Any]:
        defaults = self._derived(copy.deepcopy(self.internal_config_dict), frozenset())
        values = copy.deepcopy(self.internal_config_dict)
        update_settings(values, self.external_config_dict)
        self.sources = {**self._internal_sources, **self._external_sources}
        self._settings = copy.deepcopy(values)
        values = self._derived(values, frozenset(self._external_sources))
        self._safe_values = defaults
        for fault in collect_faults(self._checked(values)):
            self.faults.append(fault.message)
            for key in fault.keys:
                values.pop(key, None)
                if key in defaults:
                    values[key] = copy.deepcopy(defaults[key])
        if self.faults:  # what was derived from a setting at fault follows its stand-in
            values = self._derived(values, frozenset(self._external_sources))
        self._read_typed(values)
        return values

    def _checked(self, values: dict[str, Any]) -> Settings:
        return Settings(
            values=values,
            sources=self.sources,
            model=self.model,
            model_class=self.model_class if self._model_is_known else None,
            dataset=self.dataset,
            given=frozenset(self._external_sources),
        )

    def _derived(self, values: dict[str, Any], given: frozenset[str]) -> dict[str, Any]:
        """Fill in what follows from other settings, unless the user gave it."""
        sequential = self.model_class.type == ModelType.SEQUENTIAL
        has_input_type = hasattr(self.model_class, "input_type")
        args = "train_neg_sample_args"
        if isinstance(values.get(args), str) and values[args].lower() == "none":
            values[args] = None
        if args not in given and sequential and not has_input_type:
            if values.get("loss_type") == "CE":
                values[args] = None
            self.sources[args] = DERIVED
        repeats, read = "repeat_seq_length", values.get("MAX_ITEM_LIST_LENGTH")
        is_free = repeats in values and repeats not in given and is_whole_number(read, 1)
        if is_free and values.get("benchmark_filename"):  # whose rows hold no more of a history
            values[repeats], self.sources[repeats] = read, DERIVED
        if "load_col" not in given and self._internal_sources.get("load_col", "").endswith(
            "sample.yaml"
        ):
            # RecBole's sample.yaml loads no time and knows no renamed fields.
            eval_args = values.get("eval_args")
            timed = sequential or (isinstance(eval_args, dict) and eval_args.get("order") == "TO")
            fields = ["USER_ID_FIELD", "ITEM_ID_FIELD", *(["TIME_FIELD"] if timed else [])]
            values["load_col"] = {"inter": [values[field] for field in fields]}
            self.sources["load_col"] = DERIVED
        return values

    def _read_typed(self, values: dict[str, Any]) -> None:
        """Keep typed settings; where several are at fault together, defaults stand in."""
        schema = settings_class(self.model_class)
        self.run_settings = RunSettings.model_validate({})
        self.model_settings = schema.model_validate({}) if schema else None
        try:
            self.run_settings = read_settings(RunSettings, values)
            self.model_settings = read_settings(schema, values) if schema else None
        except ValidationError:
            if not self.faults:
                raise

    def _set_default_parameters(self) -> None:
        try:
            super()._set_default_parameters()
        except _RECBOLE_ERRORS as error:
            # Settings at fault can still disagree with those kept; a fault of RecBole's own finding
            # must not be lost.
            if not self.faults:
                self.faults.append(str(error))
            self.final_config_dict = copy.deepcopy(self._safe_values)
            self._retry_defaults()
        values = self.final_config_dict
        if not hasattr(self.model_class, "input_type") and values.get("loss_type") == "BCE":
            values["MODEL_INPUT_TYPE"] = InputType.PAIRWISE
        if self._folder is not None:
            values["data_path"] = self._folder
        if values.get("output_dir") and "checkpoint_dir" not in self._external_sources:
            values["checkpoint_dir"] = str(Path(values["output_dir"]) / "saved")
            self.sources["checkpoint_dir"] = DERIVED

    def _retry_defaults(self) -> None:
        try:
            super()._set_default_parameters()
        except _RECBOLE_ERRORS:
            # Not even the defaults fit the model, so no config can be built to check data with.
            raise ConfigError(self.faults) from None

    def _init_device(self) -> None:
        values = self.final_config_dict
        gpu_id = values.get("gpu_id")
        if isinstance(gpu_id, (list, tuple)):
            gpu_id = ",".join(map(str, gpu_id))
        values["gpu_id"] = "" if gpu_id is None else str(gpu_id)
        given = "gpu_id" in self._external_sources
        use_gpu = bool(values["use_gpu"]) and bool(values["gpu_id"] or not given)
        if use_gpu and given:
            os.environ["CUDA_VISIBLE_DEVICES"] = values["gpu_id"]
        here = place()
        values["single_spec"] = True  # RecBole's way to several processes is never taken
        values["local_rank"] = here.local_rank
        if here.rank != 0:
            values["log_wandb"] = values["show_progress"] = False
        # The order matters: without a GPU wanted, CUDA is not even asked.
        values["device"] = torch.device("cpu")
        if use_gpu and torch.cuda.is_available():
            number = here.local_rank if here.world_size > 1 else None
            values["device"] = torch.device("cuda", number) if number else torch.device("cuda")
