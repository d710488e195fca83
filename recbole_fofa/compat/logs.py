"""RecBole's log lines and TensorBoard, in files of the run's own and in every run of a process."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import colorlog
from recbole.utils.logger import RemoveColorFilter, log_colors_config
from recbole.utils.utils import get_local_time

from recbole_fofa import processes

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_our_handlers: list[logging.Handler] = []


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
