"""RecBole's metrics without the import of scikit-learn, a quarter of a command's start."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

_METRICS = "recbole.evaluator.metrics"
_TAKEN = ("auc", "mean_absolute_error", "mean_squared_error")
"""What RecBole 1.2.1 takes from ``sklearn.metrics``, for AUC, MAE and RMSE."""


def import_without_sklearn() -> None:
    """Import RecBole's metrics; scikit-learn is imported when one of its functions is called.

    A RecBole that takes more from it is imported as it is, when it is used.
    """
    if "sklearn" in sys.modules or _METRICS in sys.modules:
        return
    stand_in = ModuleType("sklearn.metrics")
    for name in _TAKEN:
        setattr(stand_in, name, _called_later(name))
    sys.modules.update({"sklearn": ModuleType("sklearn"), "sklearn.metrics": stand_in})
    try:
        with suppress(ImportError):
            importlib.import_module(_METRICS)
    finally:
        del sys.modules["sklearn"], sys.modules["sklearn.metrics"]


def _called_later(name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Any:
        function = getattr(importlib.import_module("sklearn.metrics"), name)
        return function(*arguments, **keywords)

    return call
