"""The settings of a run: from all sources, checked together, written with their source."""

from recbole_fofa.config.config import DEFAULT_DATASET, DEFAULT_MODEL, FofaConfig

__all__ = ["DEFAULT_DATASET", "DEFAULT_MODEL", "FofaConfig"]
