"""What the checks of settings look at, and what they find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recbole.utils import ModelType


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Args:
        message: What was given, what is allowed and what to do.
        keys: The settings it is about.
    """

    message: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """What the checks look at.

    Args:
        values: Merged settings by name.
        sources: Where each of them came from.
        model: The model's name.
        model_class: Its class; None if the name is unknown, which skips checks that need it.
        dataset: The dataset's name.
        given: Names that the user set.
    """

    values: Mapping[str, Any]
    sources: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    model_class: type | None = None
    dataset: str = ""
    given: frozenset[str] = frozenset()

    def get(self, key: str) -> Any:
        """Value of a setting, or None."""
        return self.values.get(key)

    def shown(self, key: str) -> str:
        """A value and its source, for the end of a message."""
        source = self.sources.get(key)
        return f"got {self.get(key)!r}" + (f" (from {source})" if source else "")

    @property
    def is_sequential(self) -> bool:
        """Whether the model reads item sequences."""
        return bool(getattr(self.model_class, "type", None) == ModelType.SEQUENTIAL)

    def must(self, key: str, rule: str) -> Fault:
        """A fault of one setting that breaks a rule."""
        return Fault(f"{key} must be {rule}; {self.shown(key)}", (key,))
