"""Where a stopped run is taken up again, and what has to be as it was."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from recbole_fofa.errors import CheckpointError, ConfigError
from recbole_fofa.trainer.checkpoint import load_checkpoint, save_checkpoint

LAST_SUFFIX = "-last.pth"
"""Ending of the checkpoint that training continues from; the other one holds the best epoch."""

CALIBRATED = "calibrated"
"""Key of a best epoch that was changed after training, of what was changed."""

NEEDED_TO_RESUME = (
    "epoch cur_step best_valid_score best_valid_result optimizer random loader".split()
)
"""What a checkpoint must hold beside a model for training to go on."""

# Longer training, other places and what is shown change no number of the epochs to come.
_MAY_DIFFER = frozenset(
    """epochs output_dir checkpoint_dir data_path quiet show_progress state log_wandb wandb_project
    loss_decimal_place device_eval device_profiles device_candidates use_gpu gpu_id
    extra_settings nproc world_size ip port group_offset""".split()
)
_SCORE = "the best epoch so far was chosen by other validation scores"
_MUST_AGREE = {
    "model": "it holds other weights",
    "valid_metric": _SCORE,
    "eval_args": _SCORE,
    "mask_history": _SCORE,
    "learner": "the optimizer's state is that of another one",
}
_NOT_SET = "not set"


def beside(checkpoint: Path, ending: str) -> Path:
    """The file with another ending of the run that a checkpoint belongs to."""
    return checkpoint.with_name(checkpoint.stem.removesuffix("-last") + ending)


def find_checkpoint(place: str | Path, model: str) -> Path:
    """The checkpoint to continue from.

    Args:
        place: A checkpoint, or the output folder (or its ``saved``) of the run that was stopped.
        model: Name of the model, since a folder may hold runs of several.

    Returns:
        The file itself; of a folder the last epoch of the run that wrote last.

    Raises:
        ConfigError: If there is none.
    """
    place = Path(place)
    if place.is_file():
        return place
    if not place.is_dir():
        raise ConfigError(f"resume_from: there is no checkpoint file {place.absolute()}")
    pattern = f"{glob.escape(model)}-*.pth"
    files = [file for folder in (place, place / "saved") for file in folder.glob(pattern)]
    if not files:
        raise ConfigError(
            f"resume_from: {place.absolute()} holds no checkpoint of {model}: either it is another "
            "folder, or the run was stopped before its first epoch ended. Then start it again, "
            "without resume_from"
        )
    newest = max(files, key=lambda file: file.stat().st_mtime_ns)
    last = beside(newest, LAST_SUFFIX)
    return last if last.is_file() else newest


def make_good(path: Path) -> None:
    """Repair what a kill left undone, so that a checkpoint is that of the last epoch that was kept.

    An epoch that is the best one is written twice, first as the best, then as the last. A run that
    was killed between the two goes on from the first of them, which holds all that the second would
    have held.

    Args:
        path: A checkpoint.

    Raises:
        CheckpointError: If a file cannot be read, or the best epoch's is not there.
    """
    best = beside(path, ".pth")
    if not best.is_file():
        raise CheckpointError(
            f"{path} needs the file of the best epoch beside it, {best.name}: it is "
            "what is tested if no later epoch is better"
        )
    for ending in (".pth", LAST_SUFFIX, ".config.yaml"):
        beside(path, f"{ending}.part").unlink(missing_ok=True)
    if path != best:
        of_best = load_checkpoint(best)
        if of_best.get("epoch", -1) > load_checkpoint(path).get("epoch", -1):
            save_checkpoint(of_best, path)


def check_calibrated(path: Path, calibrate: Any) -> None:
    """A calibrated checkpoint is the end of a run: no epoch follows on it.

    Args:
        path: Checkpoint to continue from.
        calibrate: Whether the run that continues it calibrates.

    Raises:
        CheckpointError: If it is calibrated, or the best epoch beside it is and would be tested as
            if it were not.
    """
    best, last = beside(path, ".pth"), beside(path, LAST_SUFFIX)
    if CALIBRATED not in load_checkpoint(best):
        return
    if path == best:
        raise CheckpointError(
            f"{path} was calibrated after training, and cannot be trained further: continue from "
            f"{last.name} beside it"
        )
    if not calibrate:
        raise CheckpointError(
            f"{best} was calibrated after training: set calibrate_repeat_bias: true, as it was, or "
            "start again without resume_from"
        )


def changed_settings(
    before: Mapping[str, Any], now: Mapping[str, Any], path: Path
) -> dict[str, str]:
    """What differs from the settings of a checkpoint and matters to the epochs to come.

    Args:
        before: Settings in the checkpoint.
        now: Settings of the run that continues it.
        path: The checkpoint, for the message.

    Returns:
        Both values, in words, by name.

    Raises:
        CheckpointError: If with a setting of these the continuation means nothing.
    """
    changed = {
        key: f"{before.get(key, _NOT_SET)!r} -> {now.get(key, _NOT_SET)!r}"
        for key in sorted({*before, *now} - _MAY_DIFFER)
        if before.get(key, _NOT_SET) != now.get(key, _NOT_SET)
    }
    faults = [
        f"{path} cannot be continued with another {key} ({changed[key]}): {reason}. Set it as it "
        "was, or start again without resume_from"
        for key, reason in _MUST_AGREE.items()
        if key in changed
    ]
    if faults:
        raise CheckpointError(faults)
    return changed


def set_rates(optimizer: torch.optim.Optimizer, changed: Mapping[str, Any]) -> None:
    """Let changed settings that the optimizer's state holds too win over it."""
    for name, option in (("learning_rate", "lr"), ("weight_decay", "weight_decay")):
        if name in changed:
            for group in optimizer.param_groups:
                group[option] = changed[name]
