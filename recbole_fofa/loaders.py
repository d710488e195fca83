"""Loaders for training, validation and test, those of RecBole but for session windows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from typing import Any

from recbole.data import create_dataset
from recbole.data.dataloader import NegSampleEvalDataLoader
from recbole.data.utils import create_samplers, get_dataloader
from recbole.utils import ModelType

from recbole_fofa import processes
from recbole_fofa.config.config import FofaConfig
from recbole_fofa.data.batch_part import PartLoader
from recbole_fofa.data.session_loader import SessionLoader
from recbole_fofa.data.splits import check_splits
from recbole_fofa.errors import DataError, FofaError
from recbole_fofa.registry import get_dataset_class


def prepare_data(config: FofaConfig) -> tuple[Any, Any, Any]:
    """Loaders for training, validation and test; RecBole's but for session windows."""
    logger = getLogger()
    own = get_dataset_class(config)
    with explained(DataError, f"RecBole cannot load {config['dataset']}"):
        dataset = own(config) if own is not None else create_dataset(config)
        logger.info(dataset)
        parts = dict(zip(("train", "valid", "test"), dataset.build(), strict=True))
    for line in check_splits(parts, dataset.user_num - 1, config["topk"]):
        logger.info(line)
    samplers = create_samplers(config, dataset, list(parts.values()))
    loaders = [
        _evaluation_loader(config, part, parts[part], sampler)
        for part, sampler in zip(("valid", "test"), samplers[1:], strict=True)
    ]
    return _train_loader(config, parts["train"], samplers[0]), *loaders


def _evaluation_loader(config: FofaConfig, name: str, dataset: Any, sampler: Any) -> Any:
    """``eval_batch_size`` rows are evaluated at a time, by all processes together."""
    n_processes, size = processes.world_size(), config["eval_batch_size"]
    if n_processes > 1:
        sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
        if sequential and config["eval_args"]["mode"][name] == "full":
            size = min(size, len(dataset))  # so that one batch for all is not one process's
        size = -(-size // n_processes)
    loader = get_dataloader(config, name)
    dataset.full_width = issubclass(loader, NegSampleEvalDataLoader)
    with _changed(config, "eval_batch_size", size):
        return loader(config, dataset, sampler, shuffle=False)


def _train_loader(config: FofaConfig, dataset: Any, sampler: Any) -> Any:
    """Each batch has ``train_batch_size`` rows for each process."""
    place = processes.Place(processes.rank(), world_size=processes.world_size())
    size = config["train_batch_size"] * place.world_size
    if config["train_regime"] != "session":
        with _changed(config, "train_batch_size", size):
            loader = get_dataloader(config, "train")(
                config, dataset, sampler, shuffle=config["shuffle"]
            )
        return PartLoader(loader, place) if place.world_size > 1 else loader
    if config["session_length"] > config["MAX_ITEM_LIST_LENGTH"]:
        getLogger().info(
            f"session windows hold {config['MAX_ITEM_LIST_LENGTH']} targets "
            f"(MAX_ITEM_LIST_LENGTH), not {config['session_length']} (session_length)"
        )
    sampling = config["train_neg_sample_args"]["distribution"]
    return SessionLoader(
        dataset,
        batch_size=size,
        session_length=config["session_length"],
        gap=config["session_gap_seconds"],
        adapt_length=config["adapt_seq_length"],
        seed=config["seed"],
        shuffle=config["shuffle"],
        negatives=None if sampling == "none" else sampling,
        seen_length=dataset.seen_length,
        place=place,
    )


@contextmanager
def _changed(config: FofaConfig, key: str, value: Any) -> Iterator[None]:
    """Another value while a loader is made. No copy: RecBole's loaders also write to the config."""
    values = config.final_config_dict
    before = values[key]
    values[key] = value
    try:
        yield
    finally:
        values[key] = before


@contextmanager
def explained(kind: type[FofaError], what: str) -> Iterator[None]:
    """Errors of RecBole's own finding as one line; the traceback goes to the log with state: debug.

    Only around what is built before training, where the cause is a setting or a file.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        getLogger().debug(what, exc_info=True)
        raise kind(f"{what}: {type(error).__name__}: {error} (state: debug logs where)") from error
