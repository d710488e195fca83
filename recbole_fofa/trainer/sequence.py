"""Trainer of the sequential models of this package."""

from __future__ import annotations

from typing import Any

import torch

from recbole_fofa.trainer.hooks import Hook
from recbole_fofa.trainer.schedules import LearningRateSchedule
from recbole_fofa.trainer.trainer import FofaTrainer


class SequenceTrainer(FofaTrainer):
    """Adds the learning-rate schedule, and torch's fused optimizer step where there is one."""

    def _own_hooks(self) -> list[Hook]:
        return [LearningRateSchedule()]

    def _build_optimizer(self, **kwargs: Any) -> Any:
        kwargs.setdefault("params", self._groups())
        optimizer = super()._build_optimizer(**kwargs)
        if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)):
            for group in optimizer.param_groups:
                group["fused"], group["foreach"] = True, False
        return optimizer

    def _generate_train_loss_output(
        self, epoch_idx: int, s_time: float, e_time: float, losses: Any
    ) -> str:
        """The sum as RecBole's loss, whatever its parts."""
        return super()._generate_train_loss_output(epoch_idx, s_time, e_time, sum(losses))

    def _groups(self) -> list[dict[str, Any]]:
        """Groups of parameters, each with the name of its part; only those that are trained."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        return [{"part": "rest", "params": trained}]
