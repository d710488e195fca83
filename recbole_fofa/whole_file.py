"""Files that are written whole or not at all, whether a process is killed or the power is cut."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recbole_fofa.errors import OutputError

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]


@contextmanager
def whole_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary name to write to, renamed at the end; after an error nothing is left behind.

    A killed process leaves ``<path>.part`` behind, which the next write to ``path`` replaces.

    Args:
        path: What is there at the end; an older file of that name is never half replaced. A link
            stays one: what it names is written.
        durable: Whether the file is on the disk, not only in memory, when this returns. It costs
            some milliseconds; without it a power cut may leave an empty file.

    Raises:
        OutputError: The file cannot be written; what stood there before is whole.
    """
    path = regular_file(path)
    part = path.with_name(path.name + ".part")
    try:
        with names_the_file(path):
            yield part
            if durable:
                _flush(part)
            os.replace(part, path)
        if durable:
            with suppress(OSError):  # the file is there; not every system flushes folders
                _flush(path.parent)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write some bytes; see :func:`whole_file`."""
    with whole_file(path, durable=durable) as part:
        part.write_bytes(data)


def regular_file(path: Path) -> Path:
    """Where a file of this name is written, through all links.

    Raises:
        OutputError: What is there is a device or a pipe, which a file would replace.
    """
    real = Path(os.path.realpath(path))
    if real.exists() and not (real.is_file() or real.is_dir()):
        raise OutputError(f"{path} is no regular file, and would be replaced by one: name another")
    return real


@contextmanager
def names_the_file(path: Path) -> Iterator[None]:
    """Turn what the system says about a failed write into an error that names the file.

    Raises:
        OutputError: In the place of any other ``OSError``.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}. Free space, or choose another "
            "folder; an older file of that name is whole"
        ) from error


@contextmanager
def held(path: Path) -> Iterator[int | None]:
    """Keep a file or folder for this process; it is free again however the process ends.

    Yields:
        A handle; a child that is given it holds the place too. ``None`` on Windows, where nobody
        is kept out, as on network folders that know no locks.

    Raises:
        OutputError: Another process holds it.
    """
    if fcntl is None:
        yield None
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        _lock(handle, path)
        yield handle
    finally:
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(
            f"{path} is being written by another process: wait for it, or name another place"
        ) from None
    except OSError:  # some network folders know no locks
        pass


def flush_all() -> None:
    """Put everything that was written so far on the disk: one call instead of one for each file."""
    if hasattr(os, "sync"):
        os.sync()


def _flush(path: Path) -> None:
    if os.name != "posix":  # elsewhere folders cannot be opened, nor files that are only read
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
