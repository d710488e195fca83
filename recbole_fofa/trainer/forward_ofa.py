"""Trainer of Forward-OFA: temperature schedule, structure term, what the gates do."""

from __future__ import annotations

from typing import Any

from recbole.utils import set_color

from recbole_fofa.trainer.trainer import FofaTrainer


class ForwardOFATrainer(FofaTrainer):
    """Found by its name through the registry.

    The Gumbel-Softmax temperature falls exponentially from ``temperature_start`` to
    ``temperature_end`` over ``temperature_epochs``; as a function of the epoch it is right after
    a resume as well.
    """

    def _build_optimizer(self, **kwargs: Any) -> Any:
        """RecBole's, with torch's fused step where the optimizer has one."""
        optimizer = super()._build_optimizer(**kwargs)
        for group in optimizer.param_groups:
            if "fused" in group and not group.get("differentiable", False):
                group["fused"] = True
                group["foreach"] = False
        return optimizer

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False
    ) -> Any:
        settings = self.model.settings
        share = min(epoch_idx / settings.temperature_epochs, 1.0)
        ratio = settings.temperature_end / settings.temperature_start
        self.model.temperature = settings.temperature_start * ratio**share
        return super()._train_epoch(train_data, epoch_idx, loss_func, show_progress)

    def _generate_train_loss_output(
        self, epoch_idx: int, s_time: float, e_time: float, losses: Any
    ) -> str:
        """RecBole's line for the sum, then each part by its name."""
        parts = losses if isinstance(losses, tuple) else (losses,)
        line: str = super()._generate_train_loss_output(epoch_idx, s_time, e_time, sum(parts))
        if len(parts) == 1:
            return line
        shown = ", ".join(
            f"{set_color(name, 'blue')}: {value:.{self.config['loss_decimal_place'] or 4}f}"
            for name, value in zip(("next item", "structure"), parts, strict=True)
        )
        return f"{line[:-1]}, {shown}]"
