"""One JSON line for each epoch's training and each validation, beside the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path


class EpochRecord:
    """Appends to ``<checkpoint>.epochs.jsonl``; a resumed run goes on in the same file.

    Where an epoch stands there twice, the run was stopped in between and the later line counts.

    Args:
        path: Of the file; ``None`` writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def write(self, epoch: int, phase: str, numbers: Mapping[str, float]) -> None:
        """Add a line.

        Args:
            epoch: From 0.
            phase: ``train`` or ``valid``.
            numbers: By name; those that are not finite are written as null.
        """
        if self._path is None:
            return
        values = {name: value if isfinite(value) else None for name, value in numbers.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"epoch": epoch, "phase": phase, **values}) + "\n")
