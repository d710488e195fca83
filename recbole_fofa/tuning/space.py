"""What a search may choose: a YAML file, or RecBole's hyper-parameter file."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recbole_fofa.config.sources import plain, read_yaml
from recbole_fofa.errors import ConfigError

RECBOLE_KINDS = ("choice", "uniform", "quniform", "loguniform")
_RECBOLE_LINE = re.compile(rf"(\S+)\s+({'|'.join(RECBOLE_KINDS)})\s+(.+)")
_RANGE_KEYS = {"low", "high", "log", "step"}


@dataclass(frozen=True)
class Choice:
    """One of some values, of any kind that a setting can have."""

    values: tuple[Any, ...]

    @property
    def names(self) -> list[str]:
        """The values as JSON, which optuna can hold."""
        return [json.dumps(value) for value in self.values]

    def edges(self) -> list[Any]:
        """Values that show whether the setting can have all of them."""
        return list(self.values)

    def like(self, value: Any) -> list[Any]:
        """A given value as it is here, 0 perhaps as 0.0; empty if it cannot be chosen."""
        alike = (own for own in self.values if isinstance(own, bool) == isinstance(value, bool))
        return [own for own in alike if own == value][:1]

    def words(self) -> str:
        """As it is printed."""
        return f"one of {', '.join(self.names)}"


@dataclass(frozen=True)
class Range:
    """A number between two others, both included.

    Attributes:
        low: Smallest value; with ``high`` a whole number, only whole numbers are chosen.
        high: Largest value.
        log: Whether equal ratios, and not equal differences, are equally likely.
        step: Distance between the values; any number in between if None.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are chosen."""
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    def edges(self) -> list[Any]:
        """Values that show whether the setting can have all of them."""
        return [self.low, self.high]

    def like(self, value: Any) -> list[Any]:
        """A given value as it is here; empty if it cannot be chosen."""
        if not _number(value) or not self.low <= value <= self.high:
            return []
        step = self.step or (1 if self.whole else None)
        if step is not None:
            n_steps = (value - self.low) / step
            if not math.isclose(n_steps, round(n_steps), abs_tol=1e-8):
                return []
        return [int(value) if self.whole else value]

    def words(self) -> str:
        """As it is printed."""
        step = f", step {self.step:g}" if self.step else ""
        return f"{self.low:g} to {self.high:g}{step}{', log' if self.log else ''}"


Space = dict[str, Choice | Range]


def read_space(path: str | Path) -> Space:
    """Read a file: names with a list, or with ``low`` and ``high``; or one of RecBole's.

    RecBole's own format is read in both of its forms: a line for each name (``learning_rate
    loguniform -8,0``; the numbers of ``loguniform`` are natural logarithms), or YAML that is
    grouped by ``choice``, ``uniform``, ``quniform`` and ``loguniform``. Nothing is evaluated.

    Raises:
        ConfigError: The file is missing or a name in it has no readable values; names each.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--space {path} cannot be read: {error}") from None
    lines = [line for line in text.splitlines() if line.strip() and line.strip()[0] != "#"]
    matches = [_RECBOLE_LINE.fullmatch(line.strip()) for line in lines]
    if lines and all(matches):
        entries = [(match[1], match[2], _literal(match[3])) for match in matches if match]
    else:
        entries = _yaml_entries(path, text)
    if not entries:
        raise ConfigError(f"--space {path} names no setting: write, say, n_layers: [1, 2, 3]")
    return _space_of(path, entries)


def _yaml_entries(path: str | Path, text: str) -> list[tuple[str, str | None, Any]]:
    """Name, RecBole's kind or None, and what stands there."""
    try:
        content = read_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--space {path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(
            f"--space {path} must give each setting its values, as n_layers: [1, 2, 3] or "
            "learning_rate: {low: 0.0005, high: 0.005, log: true}; or lines of RecBole's format"
        )
    if not all(kind in RECBOLE_KINDS and isinstance(content[kind], dict) for kind in content):
        return [(name, None, value) for name, value in content.items()]
    return [(name, kind, value) for kind in content for name, value in content[kind].items()]


def _space_of(path: str | Path, entries: list[tuple[str, str | None, Any]]) -> Space:
    space: Space = {}
    faults = []
    for name, kind, value in entries:
        try:
            if not isinstance(name, str):
                raise ValueError("is no name of a setting: names are text")
            if name in space:
                raise ValueError("is there twice")
            space[name] = _read(value) if kind is None else _read_recbole(kind, value)
        except OverflowError:
            faults.append(f"--space {path}: {name} has a number that is too large: {value!r:.80}")
        except ValueError as error:
            faults.append(f"--space {path}: {name} {error}")
    if faults:
        raise ConfigError(faults)
    return space


def _read(value: Any) -> Choice | Range:
    if isinstance(value, list):
        return _choice(value)
    if not isinstance(value, Mapping) or not {"low", "high"} <= set(value) <= _RANGE_KEYS:
        raise ValueError(
            f"needs a list of values, or low and high (and log, step), and has {value!r}"
        )
    return _range(**value)


def _read_recbole(kind: str, value: Any) -> Choice | Range:
    if kind == "choice":
        return _choice(value)
    n_numbers = 3 if kind == "quniform" else 2
    if not isinstance(value, list) or len(value) != n_numbers or not all(map(_number, value)):
        raise ValueError(f"{kind} needs {n_numbers} numbers, and has {value!r}")
    low, high = (float(number) for number in value[:2])
    if kind == "loguniform":
        return _range(math.exp(low), math.exp(high), log=True)
    if kind == "uniform":
        return _range(low, high)
    numbers = [low, high, float(value[2])]
    if all(number.is_integer() for number in numbers):
        numbers = [int(number) for number in numbers]
    return _range(numbers[0], numbers[1], step=numbers[2])


def _choice(values: Any) -> Choice:
    if not isinstance(values, list) or not values:
        raise ValueError(f"needs a list of values, and has {values!r}")
    found = Choice(tuple(values))
    try:
        json.dumps(values)
    except TypeError:
        raise ValueError(f"has values that no setting can have: {values!r}") from None
    if len(set(found.names)) < len(values):
        raise ValueError(f"has the same value twice: {values}")
    return found


def _range(low: Any, high: Any, log: Any = False, step: Any = None) -> Range:
    if not (_number(low) and _number(high) and low < high):
        raise ValueError(f"needs low < high, both numbers, and has {low!r} and {high!r}")
    if not isinstance(log, bool) or (log and low <= 0):
        raise ValueError(f"has log: {log!r} with low {low!r}: true needs numbers above 0")
    if step is not None and (log or not _number(step) or not 0 < step <= high - low):
        raise ValueError(f"has step {step!r}: it must lie within the range, and log excludes it")
    return Range(low, high, log, step)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _literal(text: str) -> Any:
    """RecBole's ``[1, 2]`` or ``0.1,0.5`` as a list; anything else as the text that it is."""
    try:
        return plain(ast.literal_eval(text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
