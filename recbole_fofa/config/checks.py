"""Checks of settings, all made before any data are read; one fault hides no other."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from recbole_fofa.config.evaluation_checks import evaluation_faults
from recbole_fofa.config.faults import Fault, Settings
from recbole_fofa.config.known_settings import (
    known_settings,
    settings_class,
    suggestion,
    unknown_setting,
)
from recbole_fofa.config.process_checks import process_faults
from recbole_fofa.config.report import not_writable
from recbole_fofa.config.sources import is_finite_number, is_whole_number
from recbole_fofa.config.training_checks import training_faults
from recbole_fofa.errors import ConfigError
from recbole_fofa.run_settings import RunSettings
from recbole_fofa.trainer.resume import find_checkpoint

SchemaT = TypeVar("SchemaT", bound=BaseModel)

LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam")
STATES = ("debug", "info", "warning", "error", "critical")
# Plainer words than pydantic's.
_TYPE_RULES = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "list_type": "a list",
}
_INTERVAL = re.compile(r"\s*[\[(]\s*(-?inf|-?[0-9.]+)\s*,\s*(inf|[0-9.]+)\s*[\])]\s*")


def collect_faults(settings: Settings) -> list[Fault]:
    """Find all that is wrong with the settings.

    Args:
        settings: The settings, with the model's class if it is known.

    Returns:
        The faults, unknown names first; empty if there are none.
    """
    checks: tuple[Callable[[Settings], Iterator[Fault]], ...] = (
        _unknown_faults,
        process_faults,
        _schema_faults,
        _common_faults,
        _head_faults,
        training_faults,
        evaluation_faults,
        _package_faults,
        _pickle_faults,
        _path_faults,
    )
    faults = [fault for check in checks for fault in check(settings)]
    return list({fault.message: fault for fault in faults}.values())


def _unknown_faults(settings: Settings) -> Iterator[Fault]:
    if settings.model_class is None:
        return
    extra = settings.get("extra_settings")
    known = known_settings(settings.model_class, settings.dataset)
    accepted = known | set(extra if isinstance(extra, list) else ())
    for key in sorted(settings.given - accepted):
        message = unknown_setting(key, settings.model, known)
        yield Fault(f"{message} ({settings.sources.get(key, '')})", (key,))


def _schema_faults(settings: Settings) -> Iterator[Fault]:
    own = settings_class(settings.model_class) if settings.model_class else None
    schemas: list[type[BaseModel]] = [RunSettings, own] if own else [RunSettings]
    for schema in schemas:
        try:
            read_settings(schema, settings.values)
        except ValidationError as error:
            for detail in error.errors():
                yield from _explained(settings, schema, detail)
        yield from _infinite_faults(settings, schema)


def read_settings(schema: type[SchemaT], values: Mapping[str, Any]) -> SchemaT:
    """Build typed settings from the values that belong to a schema.

    Args:
        schema: One of the classes of ``recbole_fofa.settings``.
        values: Settings by name; others are left out.

    Returns:
        The typed settings.

    Raises:
        pydantic.ValidationError: A value is of a wrong type or out of its limits. Types are taken
            strictly: the text "no" is no boolean and True is no number.
    """
    own = {key: values[key] for key in schema.model_fields if key in values}
    return schema.model_validate(own, strict=True)


def _explained(settings: Settings, schema: type[BaseModel], detail: Any) -> Iterator[Fault]:
    text = str(detail["msg"]).removeprefix("Value error, ")
    if not detail["loc"]:
        # A rule of several settings names them in its message; each broken rule is a line.
        for line in text.splitlines():
            yield Fault(line, tuple(key for key in schema.model_fields if key in line))
        return
    key = str(detail["loc"][0])
    rule = _TYPE_RULES.get(detail["type"], text.removeprefix("Input should be "))
    yield settings.must(key, rule)


def _infinite_faults(settings: Settings, schema: type[BaseModel]) -> Iterator[Fault]:
    for key in schema.model_fields:
        value = settings.get(key)
        if isinstance(value, float) and not is_finite_number(value):
            yield settings.must(key, "a finite number")


_RULES: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    (
        "epochs eval_step stopping_step worker loss_decimal_place metric_decimal_place",
        "a whole number of at least 0",
        lambda value: is_whole_number(value, 0),
    ),
    (
        "train_batch_size eval_batch_size MAX_ITEM_LIST_LENGTH hidden_size n_heads",
        "a whole number of at least 1",
        lambda value: is_whole_number(value, 1),
    ),
    (
        "seed",
        "a whole number from 0 to 4294967295",
        lambda value: is_whole_number(value, 0) and value < 2**32,
    ),
    ("learning_rate", "a number above 0", lambda value: is_finite_number(value) and value > 0),
    ("weight_decay", "a number of at least 0", lambda v: is_finite_number(v) and v >= 0),
    (
        """use_gpu reproducibility show_progress save_dataset save_dataloaders log_wandb shuffle
        require_pow enable_amp enable_scaler repeatable filter_inter_by_user_or_item""",
        "true or false",
        lambda value: isinstance(value, bool),
    ),
    (
        "clip_grad_norm",
        "null or a dict such as {max_norm: 5}",
        lambda value: value is None or _clips(value),
    ),
    (
        "n_layers num_layers embedding_size inner_size",
        "a whole number of at least 1",
        lambda value: not is_finite_number(value) or is_whole_number(value, 1),
    ),
    (
        "hidden_dropout_prob attn_dropout_prob dropout_prob",
        "a number from 0 to below 1",
        lambda value: not is_finite_number(value) or 0 <= value < 1,
    ),
    ("rm_dup_inter", "null, first or last", lambda value: value in (None, "first", "last")),
    (
        "user_inter_num_interval item_inter_num_interval",
        "null or an interval such as '[5,inf)', or several with ';' between them",
        lambda value: value is None or all(map(_INTERVAL.fullmatch, str(value).split(";"))),
    ),
    ("dataset data_path checkpoint_dir", "text", lambda value: isinstance(value, str)),
)


def _clips(value: Any) -> bool:
    """Whether a value can be the arguments of ``clip_grad_norm_``."""
    return isinstance(value, dict) and is_finite_number(value.get("max_norm"))


def _common_faults(settings: Settings) -> Iterator[Fault]:
    # What a schema of this package has is checked with it.
    own = settings_class(settings.model_class) if settings.model_class else None
    checked = set(own.model_fields) if own else set()
    for keys, rule, holds in _RULES:
        for key in keys.split():
            if key in settings.values and key not in checked and not holds(settings.get(key)):
                yield settings.must(key, rule)
    for key, names in (("learner", LEARNERS), ("state", STATES)):
        value = settings.get(key)
        # RecBole takes no state for "info".
        if (value is not None or key == "learner") and str(value).lower() not in names:
            near = suggestion(str(value), names)
            yield Fault(
                f"{key} must be one of {', '.join(names)}; {settings.shown(key)}{near}", (key,)
            )


def _head_faults(settings: Settings) -> Iterator[Fault]:
    width, heads = settings.get("hidden_size"), settings.get("n_heads")
    if settings.get("backbone") not in (None, "sasrec"):
        return
    if is_whole_number(width, 1) and is_whole_number(heads, 1) and width % heads:
        # The words of ForwardOFASettings, so that the two are reported once.
        yield Fault(
            f"hidden_size ({width}) must be divisible by n_heads ({heads})",
            ("hidden_size", "n_heads"),
        )


def _package_faults(settings: Settings) -> Iterator[Fault]:
    is_there = "wandb" in sys.modules or importlib.util.find_spec("wandb") is not None
    if settings.get("log_wandb") is True and not is_there:
        yield Fault(
            "log_wandb: true needs the package wandb: pip install wandb, or leave it out",
            ("log_wandb",),
        )


def _pickle_faults(settings: Settings) -> Iterator[Fault]:
    for key in ("save_dataset", "save_dataloaders"):
        if settings.get(key) is True:
            yield Fault(
                f"{key}: true is not supported: data are read from their files each time, and no "
                "pickles are written",
                (key,),
            )


def _path_faults(settings: Settings) -> Iterator[Fault]:
    resume = settings.get("resume_from")
    if isinstance(resume, str):
        try:
            find_checkpoint(os.path.expanduser(resume), settings.model)
        except ConfigError as error:
            yield Fault(str(error), ("resume_from",))
    for key in ("output_dir", "checkpoint_dir"):
        folder = settings.get(key)
        replaced = (
            key == "checkpoint_dir" and key not in settings.given and settings.get("output_dir")
        )
        if isinstance(folder, str) and not replaced:
            reason = not_writable(Path(os.path.expanduser(folder)).absolute())
            if reason:
                yield Fault(f"{key} {folder!r} cannot be written: {reason}", (key,))
