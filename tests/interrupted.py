"""Exports that stop in the middle of a file, as by Ctrl-C, or are killed."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recbole_fofa.cloud import export

ROOT = Path(__file__).parent.parent


@contextmanager
def interrupted_at_write(n_writes: int) -> Iterator[None]:
    """After so many files, half of the next one is written."""
    real, left = export.write_whole, itertools.count(n_writes, -1)

    def failing(path: Path, data: bytes, **options: Any) -> None:
        if next(left) == 0:
            path.with_name(path.name + ".part").write_bytes(data[: len(data) // 2])
            raise KeyboardInterrupt
        real(path, data, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "write_whole", failing)
        yield


def export_killed(words: Sequence[object], folder: Path, delays: Sequence[float]) -> int:
    """Kill an export again and again, then let it get through; how often it was killed.

    Args:
        words: Of the command.
        folder: Where it writes to.
        delays: Seconds from the folder's first file to each SIGKILL.
    """
    command = [sys.executable, ROOT / "run_recbole_fofa.py", "export", *words]
    n_killed = 0
    for delay in delays:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None and not (folder / "export.json").exists():
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        n_killed += process.wait() == -signal.SIGKILL
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return n_killed
