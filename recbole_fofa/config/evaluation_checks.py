"""Checks of metrics, topk, valid_metric and eval_args: what is ranked, and for whom."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from recbole.evaluator.register import metric_information, metric_types
from recbole.utils import EvaluatorType

from recbole_fofa.config.faults import Fault, Settings
from recbole_fofa.config.known_settings import suggestion
from recbole_fofa.device_profile import load_profile
from recbole_fofa.errors import ConfigError
from recbole_fofa.evaluator.prepare import Options

_EVAL_KEYS = ("split", "order", "group_by", "mode")
_LEAVE_OUT = ("valid_and_test", "valid_only", "test_only")
_MODE = re.compile(r"full|labeled|(?:uni|pop)[1-9][0-9]*")


def evaluation_faults(settings: Settings) -> Iterator[Fault]:
    """Find what is wrong with the settings of evaluation.

    Args:
        settings: The merged settings.

    Yields:
        The faults.
    """
    names = _metric_names(settings.get("metrics"))
    faults = [*_metric_faults(settings, names), *_topk_faults(settings)]
    yield from faults
    if not faults:
        yield from _valid_metric_faults(settings, names)
    args = settings.get("eval_args")
    if isinstance(args, dict):
        yield from _eval_args_faults(settings, args)
        yield from _mode_faults(settings, args, names)
    else:
        yield settings.must("eval_args", "a dict with the keys split, order, group_by and mode")
    if settings.get("device_eval") is True:
        yield from _device_faults(settings)
    if settings.get("mask_history") is True and not settings.is_sequential:
        yield Fault(
            f"mask_history: true is for sequential models; {settings.model} never ranks what a "
            "user has had, as long as repeatable is false",
            ("mask_history",),
        )
    if settings.is_sequential and settings.get("repeatable") is False:
        yield Fault(
            "repeatable: false is not possible with a sequential model; "
            "to rank no item of the user's history set mask_history: true",
            ("repeatable",),
        )


def _device_faults(settings: Settings) -> Iterator[Fault]:
    keys = ("device_eval", "device_profiles", "device_candidates")
    if not settings.is_sequential:
        yield Fault(
            f"device_eval: true is for sequential models; {settings.model} is none: leave it out",
            keys,
        )
    names, candidates = settings.get("device_profiles"), settings.get("device_candidates")
    if not _listed(names) or not isinstance(candidates, str):
        return  # their types are told elsewhere
    profiles = []
    for name in map(str, names):
        try:
            profiles.append(load_profile(name))
        except ConfigError as error:
            yield from (Fault(message, keys) for message in error.faults)
    for message in Options(profiles, candidates=candidates).faults():
        yield Fault(f"{message} (device_profiles, device_candidates)", keys)


def _metric_names(metrics: Any) -> list[Any]:
    return (
        [metrics] if isinstance(metrics, str) else list(metrics or ()) if _listed(metrics) else []
    )


def _listed(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _kind(name: Any) -> EvaluatorType | None:
    return metric_types.get(str(name).lower())


def _metric_faults(settings: Settings, names: list[Any]) -> Iterator[Fault]:
    if not names:
        yield settings.must("metrics", "a metric's name or a list of names")
    for name in names:
        if _kind(name) is None:
            near = suggestion(str(name), _titles(), f"known are {', '.join(_titles())}")
            yield Fault(f"unknown metric {name!r} in metrics{near}", ("metrics", "valid_metric"))
    if len({_kind(name) for name in names} - {None}) > 1:
        ranking = [str(name) for name in names if _kind(name) == EvaluatorType.RANKING]
        value = [str(name) for name in names if _kind(name) == EvaluatorType.VALUE]
        yield Fault(
            f"ranking metrics ({', '.join(ranking)}) and value metrics ({', '.join(value)}) cannot "
            "be used together; keep one kind in metrics",
            ("metrics", "valid_metric"),
        )


def _titles() -> list[str]:
    from recbole.evaluator.register import metrics_dict

    return sorted(getattr(metric, "__name__", name) for name, metric in metrics_dict.items())


def _topk_faults(settings: Settings) -> Iterator[Fault]:
    topk = settings.get("topk")
    ranks = topk if _listed(topk) else [topk]
    whole = all(isinstance(k, int) and not isinstance(k, bool) and k >= 1 for k in ranks)
    if not ranks or not whole:
        fault = settings.must("topk", "a whole number of at least 1, or a list of them")
        yield Fault(fault.message, ("topk", "valid_metric"))


def _valid_metric_faults(settings: Settings, names: list[str]) -> Iterator[Fault]:
    topk = settings.get("topk")
    ranks = topk if _listed(topk) else [topk]
    computed = [label for name in names for label in _labels(name, ranks)]
    wanted = settings.get("valid_metric")
    if not isinstance(wanted, str) or wanted.lower() not in [label.lower() for label in computed]:
        yield Fault(
            f"valid_metric {wanted!r} is not among the metrics that are computed "
            f"({', '.join(computed)}); {_remedy(str(wanted), names, ranks, computed)}",
            ("valid_metric", "metrics", "topk"),
        )


def _labels(name: str, ranks: list[int]) -> list[str]:
    """Keys of RecBole's result for a metric: with @k where it reads a list of k items."""
    needs = metric_information[name.lower()]
    cut = "rec.topk" in needs or "rec.items" in needs
    return [f"{name}@{k}" for k in ranks] if cut else [name]


def _remedy(wanted: str, names: list[str], ranks: list[int], computed: list[str]) -> str:
    name, _, rank = wanted.partition("@")
    held = [own for own in names if own.lower() == name.lower()]
    if held:
        instead = _labels(held[0], ranks)[0]
        if "@" not in instead or not rank.isdigit() or int(rank) < 1:
            return f"set valid_metric: {instead}"
        return f"add {rank} to topk or set valid_metric: {instead}"
    if _kind(name) is not None and _kind(name) == _kind(names[0]):
        return f"add {name} to metrics or set valid_metric: {computed[0]}"
    return f"set valid_metric: {computed[0]}"


def _eval_args_faults(settings: Settings, args: Mapping[str, Any]) -> Iterator[Fault]:
    key = ("eval_args",)
    for name in args:
        if name not in _EVAL_KEYS:
            near = suggestion(str(name), _EVAL_KEYS, f"known are {', '.join(_EVAL_KEYS)}")
            yield Fault(f"unknown key {name!r} in eval_args{near}", key)
    order, group = args.get("order", "RO"), args.get("group_by", "user")
    if order not in ("RO", "TO"):
        yield Fault(f"order of eval_args must be RO or TO; got {order!r}", key)
    elif settings.is_sequential and order == "RO":
        yield Fault(
            "order RO (random) of eval_args is not possible with a sequential model; set order: TO",
            key,
        )
    if not (group is None or group == "user" or str(group).lower() == "none"):
        yield Fault(f"group_by of eval_args must be user or none; got {group!r}", key)
    rule = _split_rule(args.get("split", {"RS": [0.8, 0.1, 0.1]}))
    if rule:
        yield Fault(f"split of eval_args must be {rule}; got {args.get('split')!r}", key)


def _split_rule(split: Any) -> str:
    """The rule that a split breaks, or nothing."""
    if not isinstance(split, dict) or len(split) != 1:
        return "one of {LS: valid_and_test}, {RS: [0.8, 0.1, 0.1]} and {TS: [0.8, 0.1, 0.1]}"
    ((kind, value),) = split.items()
    if kind == "LS":
        return "" if value in _LEAVE_OUT else f"{{LS: one of {', '.join(_LEAVE_OUT)}}}"
    if kind not in ("RS", "TS"):
        return "of kind LS, RS or TS"
    shares = value if _listed(value) else []
    numbers = [s for s in shares if isinstance(s, (int, float)) and not isinstance(s, bool)]
    if len(numbers) != len(shares) or len(numbers) != 3 or min(numbers) < 0 or sum(numbers) <= 0:
        return f"{{{kind}: a list of three shares such as [0.8, 0.1, 0.1]}}"
    return ""


def _mode_faults(settings: Settings, args: Mapping[str, Any], names: list[Any]) -> Iterator[Fault]:
    mode = args.get("mode", "full")
    phases = mode if isinstance(mode, dict) else {"valid": mode}
    keys = ("eval_args", "metrics", "valid_metric")
    for phase in sorted(map(str, set(phases) - {"valid", "test"})):
        yield Fault(f"unknown phase {phase!r} in mode of eval_args; known are valid and test", keys)
    kinds = {_kind(name) for name in names}
    for value in dict.fromkeys(map(str, phases.values())):
        if not _MODE.fullmatch(value):
            yield Fault(
                f"mode of eval_args must be full, uniN, popN (such as uni100) or labeled; "
                f"got {value!r}",
                keys,
            )
        elif settings.get("mask_history") is True and value != "full":
            yield Fault(
                f"mask_history: true works on full rankings, but mode of eval_args is {value}; "
                "set mode: full, or leave mask_history out",
                ("mask_history", "eval_args"),
            )
        elif value == "labeled" and (settings.is_sequential or EvaluatorType.RANKING in kinds):
            yield Fault(
                "mode labeled of eval_args is for value metrics of models that are not sequential; "
                "set mode: full or uni100",
                keys,
            )
        elif value == "full" and EvaluatorType.VALUE in kinds:
            yield Fault(
                "mode full of eval_args ranks all items, which value metrics "
                f"({', '.join(map(str, names))}) cannot score; set mode: uni100, or use "
                "ranking metrics",
                keys,
            )
