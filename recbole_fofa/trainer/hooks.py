"""Hooks: what may look at training, and steer it, without being part of the trainer."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recbole_fofa.errors import ConfigError

if TYPE_CHECKING:
    from recbole.data.interaction import Interaction

    from recbole_fofa.trainer.trainer import FofaTrainer

Numbers = Mapping[str, float]
"""What a hook found, by name; goes to the log line, the record, TensorBoard and wandb."""


@dataclass(frozen=True)
class Step:
    """One step of the optimizer that has just been made.

    Attributes:
        epoch: Number of the epoch, from 0.
        number: Number of the step within the epoch, from 1.
        interaction: The batch.
    """

    epoch: int
    number: int
    interaction: Interaction


class Hook:
    """Base of hooks: override what you need, the rest does nothing.

    A hook of your own is named in the setting ``hooks`` by its import path and is made without
    arguments; ``trainer.config`` and ``trainer.model`` have what it may want to know. What it
    does should follow from the epoch, the step and the model alone: then a resumed run continues
    as if it had never stopped.

    Example:
        >>> class Watch(Hook):
        ...     def on_epoch_end(self, trainer, epoch):
        ...         norm = trainer.model.item_embedding.weight.detach().norm()
        ...         return {"item norm": norm.item()}
    """

    def on_train_start(self, trainer: FofaTrainer) -> None:
        """Called once, before the first epoch that is trained."""

    def on_epoch_start(self, trainer: FofaTrainer, epoch: int) -> None:
        """Called before the first step of each epoch."""

    def on_step_end(self, trainer: FofaTrainer, step: Step) -> None:
        """Called after each step of the optimizer; the gradients are still there."""

    def on_epoch_end(self, trainer: FofaTrainer, epoch: int) -> Numbers:
        """Called after the last step of each epoch, before the evaluation."""
        return {}

    def on_evaluation_end(
        self, trainer: FofaTrainer, epoch: int, result: Mapping[str, float]
    ) -> Numbers:
        """Called after each validation with its metrics."""
        return {}

    def on_train_end(self, trainer: FofaTrainer, valid_data: Any, saved: bool) -> None:
        """Called when all epochs are done.

        Also where a run is taken up that had done them all; ``on_train_start`` is not called then.

        Args:
            trainer: Its ``saved_model_file`` holds the best epoch, if there is one.
            valid_data: The loader of the validation; ``None`` if there is none.
            saved: Whether checkpoints are written. Without them the last epoch is what is tested.
        """


def load_hooks(paths: Sequence[str]) -> list[Hook]:
    """Make the hooks that the setting ``hooks`` names.

    Args:
        paths: Import paths such as ``my_package.my_module.MyHook``.

    Raises:
        ConfigError: If a path cannot be imported, or is not a class derived from :class:`Hook`.
    """
    return [_load(path) for path in paths]


def _load(path: str) -> Hook:
    module, _, name = path.rpartition(".")
    try:
        found: Any = getattr(importlib.import_module(module), name)
        if isinstance(found, type) and issubclass(found, Hook):
            return found()
    except Exception as error:  # importing a module runs it
        raise ConfigError(
            f"hooks: {path!r} cannot be made: {type(error).__name__}: {error}; give the import "
            "path of a class that takes no arguments, such as my_module.MyHook"
        ) from error
    raise ConfigError(
        f"hooks: {path!r} is not a class derived from recbole_fofa.trainer.hooks.Hook"
    )
