"""Trainer of Forward-OFA: schedules, structure term, what the gates do while they train."""

from __future__ import annotations

from typing import Any

import torch
from recbole.utils import set_color

from recbole_fofa.model.structure import keep_probabilities
from recbole_fofa.trainer.trainer import FofaTrainer


class ForwardOFATrainer(FofaTrainer):
    """Found by its name through the registry.

    Two schedules, both functions of the epoch alone, so that they are right after a resume as
    well: the Gumbel-Softmax temperature falls exponentially from ``temperature_start`` to
    ``temperature_end`` over ``temperature_epochs``, and the learning rate is multiplied by
    ``learning_rate_decay`` after each epoch.
    """

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        self._keep_sum = torch.zeros((), device=self.device)
        self._latest_keep_rate: torch.Tensor | None = None
        if model.network.controller is not None:
            model.network.controller.register_forward_hook(self._watch_controller)

    def _watch_controller(self, controller: Any, _inputs: Any, logits: torch.Tensor) -> None:
        """The mean keep probability of each training batch; the model itself stores nothing."""
        if controller.training:
            self._latest_keep_rate = keep_probabilities(logits.detach()).mean()
            self._keep_sum += self._latest_keep_rate

    def _keep_rate(self) -> torch.Tensor | None:
        return self._latest_keep_rate

    def _build_optimizer(self, **kwargs: Any) -> Any:
        """RecBole's, with torch's fused step where every device has one."""
        optimizer = super()._build_optimizer(**kwargs)
        if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)):
            for group in optimizer.param_groups:
                group["fused"], group["foreach"] = True, False
        return optimizer

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False
    ) -> Any:
        settings = self.model.settings
        share = min(epoch_idx / settings.temperature_epochs, 1.0)
        ratio = settings.temperature_end / settings.temperature_start
        self.model.temperature = settings.temperature_start * ratio**share
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * settings.learning_rate_decay**epoch_idx
        self._keep_sum.zero_()
        return super()._train_epoch(train_data, epoch_idx, loss_func, show_progress)

    def _generate_train_loss_output(
        self, epoch_idx: int, s_time: float, e_time: float, losses: Any
    ) -> str:
        """RecBole's line for the sum, then each part by its name and the mean keep probability."""
        parts = losses if isinstance(losses, tuple) else (losses,)
        line: str = super()._generate_train_loss_output(epoch_idx, s_time, e_time, sum(parts))
        decimals = self.config["loss_decimal_place"] or 4
        shown = {}
        if len(parts) > 1:
            shown = dict(zip(("next item", "structure"), parts, strict=True))
        if self._latest_keep_rate is not None:
            shown["keep rate"] = self._keep_sum.item() / self._step
        words = [
            f"{set_color(name, 'blue')}: {value:.{decimals}f}" for name, value in shown.items()
        ]
        return line if not words else f"{line[:-1]}, {', '.join(words)}]"
