"""An export that stops in the middle of a file, as by Ctrl-C."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recbole_fofa.cloud import export


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
