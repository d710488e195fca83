"""One JSON line for each epoch's training and each validation, beside the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from recbole_fofa.whole_file import names_the_file


class EpochRecord:
    """Appends to ``<checkpoint>.epochs.jsonl``; a resumed run goes on in the same file.

    Where an epoch stands there twice, the run was stopped in between and the later line counts.
    A line that a power cut or a full disk tore is cut off before the next one is added.

    Args:
        path: Of the file; ``None`` writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        if path is not None and path.exists():
            _cut_torn_line(path)

    def write(self, epoch: int, phase: str, numbers: Mapping[str, float]) -> None:
        """Add a line.

        Args:
            epoch: From 0.
            phase: ``train`` or ``valid``.
            numbers: By name; those that are not finite are written as null.

        Raises:
            OutputError: If the file cannot be written.
        """
        if self._path is None:
            return
        values = {name: value if isfinite(value) else None for name, value in numbers.items()}
        with names_the_file(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"epoch": epoch, "phase": phase, **values}) + "\n")


def read_record(path: Path) -> list[dict[str, Any]]:
    """Lines of the file in the order of epochs, each epoch and phase once; torn ones are skipped.

    Args:
        path: Of ``<checkpoint>.epochs.jsonl``.
    """
    latest: dict[tuple[int, str], dict[str, Any]] = {}
    for text in path.read_bytes().splitlines():
        try:
            line = json.loads(text)
            latest[line["epoch"], line["phase"]] = line
        except (ValueError, KeyError, TypeError):
            continue
    return sorted(latest.values(), key=lambda line: line["epoch"])


def _cut_torn_line(path: Path) -> None:
    with names_the_file(path), path.open("r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
