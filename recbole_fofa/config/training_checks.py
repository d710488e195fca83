"""Checks of the settings of training: losses, negatives, session windows, scaling, hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from recbole.utils import InputType

from recbole_fofa.config.faults import Fault, Settings
from recbole_fofa.config.known_settings import settings_class, suggestion
from recbole_fofa.config.sources import is_finite_number, is_whole_number
from recbole_fofa.errors import ConfigError
from recbole_fofa.trainer.hooks import load_hooks

_SAMPLING_KEYS = ("distribution", "sample_num", "alpha", "dynamic", "candidate_num")


def training_faults(settings: Settings) -> Iterator[Fault]:
    """Find what is wrong with the settings of training.

    Args:
        settings: The merged settings.

    Yields:
        The faults.
    """
    yield from _loss_faults(settings)
    yield from _learner_faults(settings)
    yield from _sampling_faults(settings)
    yield from _session_faults(settings)
    yield from _scaler_faults(settings)
    yield from _hook_faults(settings)
    yield from _teacher_faults(settings)


def _loss_faults(settings: Settings) -> Iterator[Fault]:
    model_class = settings.model_class
    if model_class is None or hasattr(model_class, "input_type"):
        return
    keys = ("loss_type", "train_neg_sample_args")
    loss = settings.get("loss_type")
    # RecBole's own models have two losses; BCE is this package's.
    names = ["CE", "BPR"]
    if not model_class.__module__.startswith("recbole."):
        names.append("BCE")
    if loss is None:
        yield Fault(
            f"model {settings.model} has neither an input_type nor a loss_type; "
            f"set loss_type to one of {', '.join(names)}",
            keys,
        )
    elif loss not in names and settings_class(model_class) is None:
        rule = f"one of {', '.join(names)} for {settings.model}"
        yield Fault(settings.must("loss_type", rule).message, keys)


def _learner_faults(settings: Settings) -> Iterator[Fault]:
    room = settings.model_class.__module__ if settings.model_class is not None else ""
    is_own = not room.startswith(("recbole.", "recbole_fofa."))
    if str(settings.get("learner")).lower() == "sparse_adam" and not is_own:
        yield Fault(
            f"learner sparse_adam takes sparse gradients, and {settings.model} has none: set "
            "learner: adam",
            ("learner",),
        )


def _sampling_faults(settings: Settings) -> Iterator[Fault]:
    key, args, loss = "train_neg_sample_args", settings.get("train_neg_sample_args"), None
    if not hasattr(settings.model_class, "input_type"):
        loss = settings.get("loss_type")
    if args is not None and not isinstance(args, dict):
        yield settings.must(key, "null or a dict such as {distribution: uniform, sample_num: 1}")
        return
    samples = args is not None and args.get("distribution", "uniform") not in (None, "None", "none")
    if loss == "CE" and samples and settings.is_sequential:
        yield Fault(
            f"loss_type CE scores all items and takes no negatives, but {key} is set to {args}; "
            f"leave it out, or set loss_type to BPR or BCE",
            (key, "loss_type"),
        )
    pairwise = getattr(settings.model_class, "input_type", None) == InputType.PAIRWISE
    if not samples and (pairwise or loss in ("BPR", "BCE")):
        what = f"loss_type {loss}" if loss else f"model {settings.model}"
        yield Fault(
            f"{what} compares with sampled negatives, but {key} is null; leave {key} out",
            (key, "loss_type"),
        )
    if samples:
        yield from _sampling_value_faults(key, args or {})


def _sampling_value_faults(key: str, args: Mapping[str, Any]) -> Iterator[Fault]:
    for name in args:
        if name not in _SAMPLING_KEYS:
            yield Fault(
                f"unknown key {name!r} in {key}{suggestion(str(name), _SAMPLING_KEYS)}", (key,)
            )
    rules: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
        ("distribution", "uniform or popularity", lambda v: v in ("uniform", "popularity")),
        ("sample_num", "a whole number of at least 1", lambda v: is_whole_number(v, 1)),
        ("alpha", "a number", is_finite_number),
        ("dynamic", "true or false", lambda v: isinstance(v, bool)),
        ("candidate_num", "a whole number of at least 0", lambda v: is_whole_number(v, 0)),
    )
    for name, rule, holds in rules:
        if name in args and not holds(args[name]):
            yield Fault(f"{name} of {key} must be {rule}; got {args[name]!r}", (key,))


def _session_faults(settings: Settings) -> Iterator[Fault]:
    own = settings_class(settings.model_class) if settings.model_class else None
    split_files = settings.get("benchmark_filename")
    if split_files and settings.get("mask_history") is True:
        yield Fault(
            "mask_history: true needs whole histories, which benchmark_filename (files split "
            "beforehand) does not give; leave one of them out",
            ("mask_history",),
        )
    length, most = settings.get("repeat_seq_length"), settings.get("MAX_ITEM_LIST_LENGTH")
    if split_files and is_whole_number(length, 1) and is_whole_number(most, 1) and length != most:
        yield Fault(
            f"repeat_seq_length ({length}) must be MAX_ITEM_LIST_LENGTH ({most}) with "
            "benchmark_filename (files split beforehand), whose rows hold no more of a history",
            ("repeat_seq_length",),
        )
    if not own:
        return
    yield from _calibration_faults(settings)
    if settings.get("train_regime") != "session":
        if settings.get("session_gap_seconds") is not None:
            yield Fault(
                "session_gap_seconds cuts histories into sessions: set train_regime: session, or "
                "leave it out",
                ("session_gap_seconds",),
            )
        return
    if settings.get("transform") is not None:
        yield Fault(
            f"transform ({settings.get('transform')}) changes prefixes, and session windows are "
            "none: set train_regime: prefix, or leave it out",
            ("transform",),
        )
    if split_files:
        yield Fault(
            "benchmark_filename (files split beforehand) cannot be cut into sessions; "
            "set train_regime: prefix",
            ("train_regime",),
        )
    args = settings.get("train_neg_sample_args")
    for name, only in {"sample_num": 1, "alpha": 1.0, "dynamic": False}.items():
        value = args.get(name, only) if isinstance(args, dict) else only
        # Anything else that is no number or truth value is reported as such already.
        if value is True or (is_finite_number(value) and value > 0 and value != only):
            yield Fault(
                f"{name} of train_neg_sample_args must be {only} with train_regime: session; "
                f"got {value!r} (or set train_regime: prefix)",
                ("train_neg_sample_args", "train_regime"),
            )


def _calibration_faults(settings: Settings) -> Iterator[Fault]:
    step, epochs = settings.get("eval_step"), settings.get("epochs")
    if settings.get("calibrate_repeat_bias") is not True or not is_whole_number(epochs, 1):
        return
    if is_whole_number(step, 0) and not 0 < step <= epochs:
        yield Fault(
            f"calibrate_repeat_bias goes by validation scores, of which there are none with "
            f"eval_step {step} and epochs {epochs}: set eval_step to 1",
            ("calibrate_repeat_bias", "eval_step", "epochs"),
        )


def _scaler_faults(settings: Settings) -> Iterator[Fault]:
    if settings.get("enable_scaler") is True and settings.get("clip_grad_norm"):
        yield Fault(
            "clip_grad_norm does not hold with enable_scaler: true, because RecBole clips the "
            "scaled gradients; leave one of them out",
            ("enable_scaler", "clip_grad_norm"),
        )


def _hook_faults(settings: Settings) -> Iterator[Fault]:
    """Hooks are made once to see whether they can be, since training starts late."""
    paths = settings.get("hooks")
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        return
    for path in paths:
        try:
            load_hooks([path])
        except ConfigError as error:
            yield Fault(str(error), ("hooks",))


def _teacher_faults(settings: Settings) -> Iterator[Fault]:
    """RecBole's KD_DAGFM evaluates this text as code, wherever it came from."""
    if settings.model == "KD_DAGFM" and settings.get("teacher") not in ("CrossNet", "CIN"):
        yield settings.must("teacher", "CrossNet or CIN")
