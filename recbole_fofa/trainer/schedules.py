"""Schedules of Forward-OFA; all follow from epoch and step, so they hold after a resume too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recbole_fofa.trainer.hooks import Hook, Step

if TYPE_CHECKING:
    from recbole_fofa.trainer.trainer import FofaTrainer


class TemperatureSchedule(Hook):
    """Gumbel-Softmax temperature: exponentially from ``temperature_start`` to ``_end``."""

    def on_epoch_start(self, trainer: FofaTrainer, epoch: int) -> None:
        """Set the model's temperature."""
        settings = trainer.model.settings
        share = min(epoch / settings.temperature_epochs, 1.0)
        ratio = settings.temperature_end / settings.temperature_start
        trainer.model.temperature = settings.temperature_start * ratio**share


class LearningRateSchedule(Hook):
    """Each part's learning rate, multiplied by ``learning_rate_decay`` after each epoch.

    Over ``learning_rate_warmup_epochs`` it rises linearly from the first step. Without that, blocks
    with their norm behind them (SASRec's) may never learn to read the sequence.
    """

    def on_epoch_start(self, trainer: FofaTrainer, epoch: int) -> None:
        """Set the rates of the first step."""
        self._set(trainer, epoch, 1)

    def on_step_end(self, trainer: FofaTrainer, step: Step) -> None:
        """Set the rates of the next step."""
        if step.epoch < trainer.model.settings.learning_rate_warmup_epochs:
            self._set(trainer, step.epoch, step.number + 1)

    def _set(self, trainer: FofaTrainer, epoch: int, number: int) -> None:
        settings = trainer.model.settings
        warmup = settings.learning_rate_warmup_epochs * trainer.n_steps
        risen = min(1.0, (epoch * trainer.n_steps + number) / warmup) if warmup else 1.0
        rates = {
            part: getattr(settings, f"{part}_learning_rate", None)
            for part in ("controller", "mapper")
        }
        for group in trainer.optimizer.param_groups:
            rate = rates.get(group["part"]) or trainer.learning_rate
            group["lr"] = rate * settings.learning_rate_decay**epoch * risen


class WarmUp(Hook):
    """First the blocks learn, then who needs which of them.

    For ``controller_warmup_epochs`` every block is kept and the controller is frozen; for
    ``mapper_warmup_epochs`` all users share the base and the mapper is frozen. A checkpoint from
    these epochs is evaluated in the same way: both are part of the model's state.
    """

    def on_epoch_start(self, trainer: FofaTrainer, epoch: int) -> None:
        """Freeze or release."""
        model, settings = trainer.model, trainer.model.settings
        model.keep_all = epoch < settings.controller_warmup_epochs
        model.share_base = epoch < settings.mapper_warmup_epochs
        for part, is_frozen in (
            (model.network.controller, model.keep_all),
            (model.network.mapper, model.share_base),
        ):
            if part is not None:
                part.requires_grad_(not is_frozen)


class AlternatingSteps(Hook):
    """Odd steps train the controller, even steps everything else (``alternate_steps``).

    Starts after the warm-up, in which the controller has nothing to do.
    """

    def on_epoch_start(self, trainer: FofaTrainer, epoch: int) -> None:
        """The first step is the controller's."""
        self._next(trainer, controller=True)

    def on_step_end(self, trainer: FofaTrainer, step: Step) -> None:
        """The other part's turn."""
        self._next(trainer, controller=step.number % 2 == 0)

    def _next(self, trainer: FofaTrainer, controller: bool) -> None:
        model = trainer.model
        if model.keep_all or model.share_base:
            return
        model.requires_grad_(not controller)
        model.network.controller.requires_grad_(controller)
