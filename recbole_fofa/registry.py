"""Which class belongs to a name: ours first, then RecBole's."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from typing import Any

from recbole.data.dataset import Dataset
from recbole.trainer import Trainer
from recbole.utils import ModelType
from recbole.utils import get_trainer as get_recbole_trainer

from recbole_fofa.compat import switch_off_anomaly_mode
from recbole_fofa.data.dataset import FofaDataset, FofaSequentialDataset
from recbole_fofa.errors import ConfigError
from recbole_fofa.recommender.duet import DUET
from recbole_fofa.recommender.forward_ofa import ForwardOFA
from recbole_fofa.trainer.forward_ofa import ForwardOFATrainer
from recbole_fofa.trainer.sequence import SequenceTrainer
from recbole_fofa.trainer.trainer import FofaTrainer

MODELS: dict[str, type] = {"ForwardOFA": ForwardOFA, "DUET": DUET}
TRAINERS: dict[str, type[FofaTrainer]] = {
    "ForwardOFA": ForwardOFATrainer,
    "DUET": SequenceTrainer,
}

_DATASETS: dict[ModelType, type[Dataset]] = {
    ModelType.SEQUENTIAL: FofaSequentialDataset,
    ModelType.GENERAL: FofaDataset,
    ModelType.TRADITIONAL: FofaDataset,
    ModelType.CONTEXT: FofaDataset,
}
# They index the copied prefixes of the whole data set, which lazy rows do not hold.
_READ_PREFIXES_THEMSELVES = ("FEARec",)
_NOT_SUPPORTED = ("lightgbm", "xgboost")
_RECBOLE_ROOMS = (
    "general_recommender",
    "context_aware_recommender",
    "sequential_recommender",
    "knowledge_aware_recommender",
)


def get_model(name: str) -> type:
    """The model class of a name.

    Raises:
        ConfigError: If neither this package nor RecBole has it, with the nearest name.
    """
    if name in MODELS:
        return MODELS[name]
    for room in _RECBOLE_ROOMS:
        # Importing the room makes RecBole import all its models; sine.py among them switches
        # autograd's anomaly mode on for the whole process.
        package = importlib.import_module(f"recbole.model.{room}")
        switch_off_anomaly_mode()
        found = getattr(package, name, None)
        if isinstance(found, type):  # a lower-case name is that of a module
            return found
    if name.lower() in _NOT_SUPPORTED:
        raise ConfigError(f"model {name} is not supported: RecBole trains it outside of torch")
    by_lower = {known.lower(): known for known in model_names()}
    near = difflib.get_close_matches(name.lower(), by_lower, 1, cutoff=0.6)
    hint = f"; did you mean '{by_lower[near[0]]}'?" if near else ""
    raise ConfigError(f"unknown model '{name}'{hint} (model)")


def model_names() -> list[str]:
    """All names that :func:`get_model` knows."""
    names = set(MODELS)
    for room in _RECBOLE_ROOMS:
        package = importlib.import_module(f"recbole.model.{room}")
        modules = {info.name for info in pkgutil.iter_modules(package.__path__)}
        names |= {name for name in vars(package) if name.lower() in modules and name[0].isupper()}
    switch_off_anomaly_mode()
    return sorted(names)


def get_trainer(config: Any) -> type[FofaTrainer]:
    """The trainer class of a config's model; RecBole's special trainers keep their own steps.

    A class that is derived from a model of this package has that model's trainer.
    """
    for model_class in config.model_class.__mro__:
        if model_class.__name__ in TRAINERS:
            return TRAINERS[model_class.__name__]
    theirs = get_recbole_trainer(config["MODEL_TYPE"], config["model"])
    if theirs is Trainer:
        return FofaTrainer
    return type(f"Fofa{theirs.__name__}", (FofaTrainer, theirs), {"__doc__": theirs.__doc__})


def get_dataset_class(config: Any) -> type[Dataset] | None:
    """Our dataset class for a config, or ``None`` where RecBole's own must be used."""
    own = importlib.import_module("recbole.data.dataset")
    if hasattr(own, f"{config['model']}Dataset") or config["model"] in _READ_PREFIXES_THEMSELVES:
        return None
    return _DATASETS.get(config["MODEL_TYPE"])
