"""Whether checkpoints can be written and will fit, asked before there is anything to lose."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from recbole_fofa.errors import ConfigError, OutputError

_DISK_FAULTS = frozenset(
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO") if hasattr(errno, name)
)
"""Numbers of the system's errors that are about the disk, whoever wrote."""

_TENSORS_OF_A_LEARNER = {"sgd": 0, "adagrad": 1, "rmsprop": 1}
_MOST_TENSORS_OF_A_LEARNER = 2


def claim_folder(folder: Path, key: str) -> None:
    """Make a folder and write to it; what was written is gone again, even after a kill.

    Args:
        folder: Where something will be written later.
        key: The setting that it comes from.

    Raises:
        ConfigError: If it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        raise ConfigError(
            f"{key}: {folder.absolute()} cannot be written: {error.strerror or error}. Choose "
            f"another {key}, or free space"
        ) from None


def check_space(checkpoints: Sequence[Path], model: torch.nn.Module, learner: str) -> None:
    """See that a run's checkpoints fit, and one more: an old one stays until the new is whole.

    Args:
        checkpoints: Where they will be; those that are there already need no more space.
        model: What is trained.
        learner: RecBole's name of the optimizer.

    Raises:
        ConfigError: If they do not.
    """
    folder = checkpoints[0].absolute().parent
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # some network folders do not know
        return
    n_new = 1 + sum(not path.is_file() for path in checkpoints)
    needed = n_new * _bytes_of_checkpoint(model, learner.lower())
    if free < needed:
        raise ConfigError(
            f"{folder} has {free / 1e6:.1f} MB free, but {n_new} checkpoints (best epoch, last "
            f"epoch, the one that is being written) need about {needed / 1e6:.1f} MB: free space, "
            "or choose another output_dir or checkpoint_dir"
        )


@contextmanager
def explains_the_disk(last: Path) -> Iterator[None]:
    """Say how training goes on when the disk is full, whoever was writing.

    Args:
        last: Checkpoint of the last epoch, if there is one.

    Raises:
        OutputError: In the place of an error of the disk; other errors pass.
    """
    try:
        yield
    except OSError as error:
        if not isinstance(error, OutputError) and error.errno not in _DISK_FAULTS:
            raise
        what = (
            str(error)
            if isinstance(error, OutputError)
            else f"the disk of {last.parent} failed: {error.strerror}"
        )
        how = f"continue with --resume_from={last}" if last.is_file() else "start again"
        raise OutputError(f"{what}. Training stopped; {how}") from error


def _bytes_of_checkpoint(model: torch.nn.Module, learner: str) -> int:
    """Weights, and the optimizer's tensors once it has made a step."""
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    trained = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    return weights + trained * _TENSORS_OF_A_LEARNER.get(learner, _MOST_TENSORS_OF_A_LEARNER)
