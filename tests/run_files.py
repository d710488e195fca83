"""What the runs of tests left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from recbole_fofa.trainer.checkpoint import load_checkpoint
from recbole_fofa.trainer.record import read_record
from recbole_fofa.trainer.resume import beside


def checkpoints(folder: Path) -> tuple[Path, Path]:
    """Of the best and of the last epoch of the only run in an output folder."""
    (best,) = (path for path in folder.glob("saved/*.pth") if "-last" not in path.name)
    return best, beside(best, "-last.pth")


def outcome(folder: Path) -> dict[str, Any]:
    """What a finished run left, without its checkpoints."""
    best, _ = checkpoints(folder)
    return {
        "result": json.loads((folder / "result.json").read_text()),
        "epochs": read_record(beside(best, ".epochs.jsonl")),
        "left": list(best.parent.glob("*.part")),
    }


def equal_states(one: Path, other: Path) -> bool:
    states = [load_checkpoint(path) for path in (one, other)]
    same_weights = all(
        torch.equal(value, states[1]["state_dict"][name])
        for name, value in states[0]["state_dict"].items()
    )
    return same_weights and states[0]["epoch"] == states[1]["epoch"]
