"""RecBole's quirks on today's numpy, pandas and torch, each with its remedy, in one place.

Nothing here changes RecBole's files. What is replaced inside RecBole is put back afterwards.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import colorlog
import numpy as np
import recbole
import scipy.sparse
import torch
from recbole.utils.logger import RemoveColorFilter, log_colors_config
from recbole.utils.utils import get_local_time

from recbole_fofa import processes
from recbole_fofa.errors import ConfigError

_OLDEST, _TOO_NEW = (1, 2, 1), (1, 3)
_ALIASES = {
    "float_": np.float64,
    "complex_": np.complex128,
    "unicode_": np.str_,
    "bool": np.bool_,
    "int": np.int_,
    "float": np.float64,
    "complex": np.complex128,
    "object": np.object_,
    "str": np.str_,
    "long": np.int_,
    "unicode": np.str_,
}
# The chained fills do lose values under pandas 3; the data checks find and report those.
_NOISE: tuple[tuple[str, type[Warning], str], ...] = (
    (r".*torch\.cuda\.amp\.(GradScaler|autocast)", FutureWarning, r"recbole\."),
    (r"distutils Version classes are deprecated", DeprecationWarning, r"thop\."),
    (r"A value is (being|trying to be) set on a copy", Warning, r"recbole\.data\."),
    (r"The inplace keyword in .* is deprecated", Warning, r"recbole\.data\."),
    (r"The given NumPy array is not writable", UserWarning, r"recbole\.data\."),
    (r"__array_wrap__ must accept context", DeprecationWarning, r"numpy\._core\.fromnumeric"),
)
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_our_handlers: list[logging.Handler] = []


def check_versions() -> None:
    """Refuse a RecBole whose internals this package was not written for.

    Raises:
        ConfigError: RecBole is older than 1.2.1 or is 1.3 or newer.
    """
    found = str(getattr(recbole, "__version__", "unknown"))
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:3])
    if not _OLDEST <= numbers < _TOO_NEW:
        raise ConfigError(
            f"recbole {found} is installed, but recbole_fofa needs recbole >=1.2.1,<1.3: "
            'run pip install "recbole>=1.2.1,<1.3"'
        )


def add_numpy_aliases() -> None:
    """Give numpy the removed names that RecBole reads; names that exist stay as they are."""
    for name, scalar in _ALIASES.items():
        # Not hasattr: numpy 1.26 warns when a removed name is looked up.
        if name not in vars(np):
            setattr(np, name, scalar)


def add_dok_update() -> None:
    """Give scipy's ``dok_matrix`` the removed ``_update`` that RecBole's graph models call."""
    if not hasattr(scipy.sparse.dok_matrix, "_update"):
        scipy.sparse.dok_matrix._update = lambda matrix, entries: matrix._dict.update(entries)


def switch_off_anomaly_mode() -> None:
    """Undo a side effect of importing RecBole's sequential models.

    ``sine.py`` switches torch's anomaly mode on for the whole process, which makes every training
    step of every model slower. Call this after the models were imported.
    """
    torch.autograd.set_detect_anomaly(False)


def quiet_known_warnings() -> None:
    """Hide the deprecation warnings that RecBole's own lines cause; all others stay visible."""
    for message, category, module in _NOISE:
        warnings.filterwarnings("ignore", message=message, category=category, module=module)


def unused_path(path: Path) -> Path:
    """The path, or the first of ``name-2``, ``name-3``, ... that does not exist."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate


def _log_file(config: Any) -> Path:
    folder = Path(config["output_dir"] or ".") / "log" / str(config["model"])
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(str(value) for value in config.final_config_dict.values())
    digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:6]
    # RecBole's name of the file. A second is too coarse for runs of one process, hence _unique.
    name = f"{config['model']}-{config['dataset']}-{get_local_time()}-{digest}.log"
    return unused_path(folder / name)


def _is_result_or_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or getattr(record, "is_result", False)


def init_logger(config: Any) -> Path | None:
    """Send log lines to the screen and to a file of this run.

    RecBole's own ``init_logger`` has no effect in the second run of a process; this one replaces
    the handlers of the run before and leaves those of other programs alone. With ``quiet`` the
    screen gets warnings, errors and the records that carry ``is_result`` only. Of several processes
    one speaks and writes; the others say only what ends them.

    Args:
        config: The run's config; ``output_dir``, ``model``, ``dataset``, ``state`` and ``quiet``
            are read.

    Returns:
        The log file; ``None`` where there is none.
    """
    if not processes.is_main():
        screen = logging.StreamHandler()
        screen.setLevel(logging.ERROR)
        _replace_handlers(logging.ERROR, [screen])
        return None
    level = _LEVELS.get(str(config["state"] or "info").lower(), logging.INFO)
    path = _log_file(config)

    file_handler = logging.FileHandler(path, encoding="utf-8")
    file_handler.setLevel(level)
    file_handler.setFormatter(
        logging.Formatter("%(asctime)-15s %(levelname)s  %(message)s", "%a %d %b %Y %H:%M:%S")
    )
    file_handler.addFilter(RemoveColorFilter())

    screen = logging.StreamHandler()
    screen.setLevel(level)
    if config["quiet"]:
        screen.addFilter(_is_result_or_warning)
    screen.setFormatter(
        colorlog.ColoredFormatter(
            "%(log_color)s%(asctime)-15s %(levelname)s  %(message)s",
            "%d %b %H:%M",
            log_colors=log_colors_config,
        )
    )
    # The filter takes the colours out of the record itself, so the screen has to come first.
    _replace_handlers(level, [screen, file_handler])
    return path


def close_logger() -> None:
    """Take the handlers of the last run off the root logger and close its file."""
    root = logging.getLogger()
    while _our_handlers:
        handler = _our_handlers.pop()
        root.removeHandler(handler)
        handler.close()


def _replace_handlers(level: int, handlers: list[logging.Handler]) -> None:
    close_logger()
    root = logging.getLogger()
    root.setLevel(level)
    for handler in handlers:
        root.addHandler(handler)
        _our_handlers.append(handler)


def _run_name() -> str:
    for handler in _our_handlers:
        if isinstance(handler, logging.FileHandler):
            return Path(handler.baseFilename).stem
    return f"model-{get_local_time()}-{os.getpid()}"


class _NoWriter:
    """In the place of TensorBoard's writer where another process writes."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


@contextmanager
def tensorboard_folder(folder: str | Path | None) -> Iterator[None]:
    """Let trainers that are built inside write to ``<folder>/log_tensorboard/``.

    RecBole fixes the folder to the current directory; its trainer looks the writer up by name.

    Args:
        folder: The output folder; None is the current directory.

    Yields:
        Nothing.
    """
    # Imported here because RecBole's trainer takes a while to import.
    from recbole.trainer import trainer as module
    from torch.utils.tensorboard import SummaryWriter

    def get_tensorboard(_logger: logging.Logger) -> SummaryWriter | _NoWriter:
        if not processes.is_main():
            return _NoWriter()
        path = Path(folder or ".") / "log_tensorboard" / _run_name()
        return SummaryWriter(str(unused_path(path)))

    original = module.get_tensorboard
    module.get_tensorboard = get_tensorboard
    try:
        yield
    finally:
        module.get_tensorboard = original


@contextmanager
def counts_set_aside(collected: Any) -> Iterator[dict[str, Any]]:
    """Keep plain numbers and counters out of RecBole's sight while it takes what was collected.

    Version 1.2.1 calls ``.cpu()`` on them, so that ItemCoverage, GiniIndex, AveragePopularity and
    TailPercentage fail at the first evaluation.

    Args:
        collected: RecBole's ``DataStruct``.

    Yields:
        What was set aside, by name.
    """
    plain = {k: value for k, value in collected._data_dict.items() if not torch.is_tensor(value)}
    for name in plain:
        del collected[name]
    yield plain
    for name, value in plain.items():
        collected.set(name, value)


@contextmanager
def single_process_barrier() -> Iterator[None]:
    """Let RecBole's download end without a process group: it calls ``barrier`` unconditionally."""
    import torch.distributed as distributed

    if distributed.is_available() and distributed.is_initialized():
        yield
        return
    original = distributed.barrier
    distributed.barrier = lambda *_, **__: None
    try:
        yield
    finally:
        distributed.barrier = original


@contextmanager
def elementwise_length() -> Iterator[None]:
    """Give ``Series.agg(len)`` its old meaning, the length of each element, while RecBole loads.

    pandas 3 returns the number of rows instead; RecBole uses it for every sequence column.
    """
    import pandas

    original = pandas.Series.agg

    def agg(series: Any, function: Any = None, *args: Any, **keywords: Any) -> Any:
        return series.map(len) if function is len else original(series, function, *args, **keywords)

    pandas.Series.agg = agg
    try:
        yield
    finally:
        pandas.Series.agg = original
