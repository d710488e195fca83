"""Which names of settings exist, so that a misspelt one is found and its neighbour is offered."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

import recbole
from pydantic import BaseModel
from recbole.utils.argument_list import (
    dataset_arguments,
    evaluation_arguments,
    general_arguments,
    training_arguments,
)

from recbole_fofa.config.sources import read_yaml
from recbole_fofa.packaged import properties_folder
from recbole_fofa.run_settings import RunSettings
from recbole_fofa.settings import DUETSettings, ForwardOFASettings

# Models of this package and the schema of their own settings.
MODEL_SETTINGS: dict[str, type[BaseModel]] = {
    "ForwardOFA": ForwardOFASettings,
    "DUET": DUETSettings,
}

# RecBole's code reads these through config["..."], though no YAML file or list of its names them.
# A test scans RecBole's source and holds this set complete.
READ_BY_RECBOLE = frozenset(
    """model dataset encoding discretization numerical_features double_tower
    embedding_size reg_weight convert_token_to_onehot token_num_threshold tail_ratio wandb_project
    beta eta m_step kge_interval mask_ratio ft_ratio CROP_ITEM_SEQ CROP_ITEM_SEQ_LEN
    INVERSE_ITEM_SEQ MASK_INDEX MASK_ITEM_SEQ REORDER_ITEM_SEQ NEG_ITEMS POS_ITEMS pretrain_epochs
    save_step train_kg_step train_rec_step n_dec_epochs n_enc_epochs warm_up_step
    lgb_num_boost_round lgb_params xgb_early_stopping_rounds xgb_model xgb_nthread
    xgb_num_boost_round xgb_params xgb_silent xgb_verbose_eval
    loss_type nproc world_size offset group_offset ip port local_rank""".split()
)

# Names that RecBole's config makes itself, or no longer reads: setting them has no effect.
USELESS = {
    "MODEL_TYPE": "it follows from the model",
    "MODEL_INPUT_TYPE": "it follows from the model and loss_type",
    "eval_type": "it follows from metrics",
    "device": "set use_gpu or gpu_id",
    "config_file": "use --config_files or config_file_list",
    "config_files": "use --config_files or config_file_list",
    "single_spec": "set nproc, or use torchrun",
    "verbose": "set state or quiet",
    "valid_neg_sample_args": "set eval_args: {mode: {valid: uni100}}",
    "test_neg_sample_args": "set eval_args: {mode: {test: uni100}}",
    "neg_sampling": "RecBole 1.2 reads train_neg_sample_args",
    "training_neg_sample_num": "RecBole 1.2 reads train_neg_sample_args: {sample_num: 1}",
}
# Common names that act in those models only whose code reads them.
_MODELS_OWN = frozenset(("embedding_size", "reg_weight"))
_READ = re.compile(r"""config\[\s*["']([^"'\[\]{}]+)["']\s*\]""")


def recbole_properties() -> Path:
    """Folder of RecBole's own YAML files."""
    return Path(recbole.__file__).parent / "properties"


@cache
def _keys_of(file: Path) -> frozenset[str]:
    if not file.is_file():
        return frozenset()
    return frozenset(read_yaml(file.read_text(encoding="utf-8")) or ())


@cache
def _common() -> frozenset[str]:
    folder = recbole_properties()
    files = [folder / "overall.yaml", folder / "dataset" / "sample.yaml"]
    files += sorted((folder / "quick_start_config").glob("*.yaml"))
    lists = (general_arguments, training_arguments, evaluation_arguments, dataset_arguments)
    keys = {key for file in files for key in _keys_of(file)} | set().union(*lists)
    return frozenset(keys | READ_BY_RECBOLE | set(RunSettings.model_fields))


def settings_class(model_class: type) -> type[BaseModel] | None:
    """Schema of the settings of a model of this package, or of a class derived from one."""
    names = [cls.__name__ for cls in model_class.__mro__]
    return next((MODEL_SETTINGS[name] for name in names if name in MODEL_SETTINGS), None)


def parent_names(model_class: type) -> list[str]:
    """Names of the model and its parents; each may have a YAML file. The model comes first."""
    return [cls.__name__ for cls in model_class.__mro__ if cls is not object]


def _model_keys(model_class: type) -> set[str]:
    """Settings that a model has: its YAML files', its schema's and those its code reads."""
    keys: set[str] = set()
    for name in parent_names(model_class):
        for folder in (recbole_properties(), properties_folder()):
            keys |= _keys_of(folder / "model" / f"{name}.yaml")
    schema = settings_class(model_class)
    keys |= set(schema.model_fields) if schema else set()
    for cls in model_class.__mro__:
        if not cls.__module__.startswith(("torch", "builtins")):
            keys |= set(_READ.findall(_source(cls)))
    return keys


def _source(cls: type) -> str:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):  # typed at a prompt, or built by code
        return ""


def known_settings(model_class: type, dataset: str) -> frozenset[str]:
    """Names that a run of this model may set.

    Args:
        model_class: The recommender's class.
        dataset: The dataset's name; it may have a YAML file of its own.

    Returns:
        The names, without those of ``extra_settings``.
    """
    keys = (set(_common()) - _MODELS_OWN) | _model_keys(model_class)
    for folder in (recbole_properties(), properties_folder()):
        keys |= _keys_of(folder / "dataset" / f"{dataset}.yaml")
    return frozenset(keys - set(USELESS))


def unknown_setting(key: str, model: str, known: Collection[str]) -> str:
    """Say why a name is refused and what may have been meant."""
    if key in USELESS:
        return f"setting {key!r} has no effect: {USELESS[key]}"
    owners = [name for name, schema in MODEL_SETTINGS.items() if key in schema.model_fields]
    if owners:
        return f"setting {key!r} belongs to {owners[0]}; the model is {model}"
    return (
        f"unknown setting {key!r}{suggestion(key, known, 'list it in extra_settings to keep it')}"
    )


def suggestion(word: str, names: Iterable[str], otherwise: str = "") -> str:
    """The end of a message: the name that is nearest to a word, whatever its case.

    Args:
        word: What was given.
        names: What exists.
        otherwise: What to say when nothing is near.

    Returns:
        Text that starts with "; ", or nothing.
    """
    by_lower = {name.lower().replace("-", "_"): name for name in names}
    close = difflib.get_close_matches(word.lower().replace("-", "_"), list(by_lower), n=1)
    if close:
        return f"; did you mean {by_lower[close[0]]!r}?"
    return f"; {otherwise}" if otherwise else ""
