"""Configs for tests, with stand-ins for models whose import takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from recbole.model.abstract_recommender import GeneralRecommender, SequentialRecommender
from recbole.utils import InputType

from recbole_fofa.config.config import FofaConfig
from recbole_fofa.errors import ConfigError


class ForwardOFA(SequentialRecommender):
    """Stands for the real model: a config needs no more than a name and a type."""


class SASRec(SequentialRecommender):
    """Stands for RecBole's model, whose import takes seconds."""


class BPR(GeneralRecommender):
    """Stands for RecBole's pairwise model."""

    input_type = InputType.PAIRWISE


class DeepFM(GeneralRecommender):
    """Stands for a pointwise model."""

    input_type = InputType.POINTWISE


MODELS = {model.__name__: model for model in (ForwardOFA, SASRec, BPR, DeepFM)}


def get_model(name: str) -> type:
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}")
    return MODELS[name]


def config(*words: str, **settings: Any) -> FofaConfig:
    """A config of command-line words and a dict."""
    model = settings.pop("model", None)
    return FofaConfig(model, config_dict=settings, arguments=words)


def faults(*words: str, **settings: Any) -> list[str]:
    model = settings.pop("model", None)
    return FofaConfig(model, config_dict=settings, arguments=words, raise_faults=False).faults


def one_fault(*words: str, **settings: Any) -> str:
    """The message of settings that have exactly one fault."""
    found = faults(*words, **settings)
    assert len(found) == 1, found
    return found[0]


def write_yaml(path: Path, **values: Any) -> Path:
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path
