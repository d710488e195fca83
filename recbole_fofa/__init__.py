"""Forward-OFA (KDD 2025) for RecBole: per-user structure and parameters in one forward pass."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load", "recommend_many", "run_recbole_fofa"]
_PLACES = {
    "load": "recbole_fofa.serving.recommend",
    "recommend_many": "recbole_fofa.serving.many",
    "run_recbole_fofa": "recbole_fofa.quick_start",
}


def __getattr__(name: str) -> Any:
    """The package's three main functions, imported when they are asked for: torch is slow."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)
