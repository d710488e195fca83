"""Trainer of Forward-OFA: schedules, monitors, an optimizer that knows its parts."""

from __future__ import annotations

from typing import Any

import torch

from recbole_fofa.trainer.hooks import Hook
from recbole_fofa.trainer.monitors import StructureMonitor
from recbole_fofa.trainer.schedules import (
    AlternatingSteps,
    LearningRateSchedule,
    TemperatureSchedule,
    WarmUp,
)
from recbole_fofa.trainer.trainer import FofaTrainer


class ForwardOFATrainer(FofaTrainer):
    """Found by its name through the registry; what it adds to training are its hooks."""

    def _own_hooks(self) -> list[Hook]:
        settings = self.model.settings
        self._structures = StructureMonitor()
        hooks: list[Hook] = [TemperatureSchedule(), LearningRateSchedule(), WarmUp()]
        if settings.alternate_steps:
            hooks.append(AlternatingSteps())
        return [*hooks, self._structures]

    def _keep_rate(self) -> torch.Tensor | None:
        return self._structures.latest_keep_rate

    def _build_optimizer(self, **kwargs: Any) -> Any:
        """RecBole's, one group for each part, with torch's fused step where there is one."""
        kwargs.setdefault("params", self._groups())
        optimizer = super()._build_optimizer(**kwargs)
        if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)):
            for group in optimizer.param_groups:
                group["fused"], group["foreach"] = True, False
        return optimizer

    def _groups(self) -> list[dict[str, Any]]:
        network = self.model.network
        parts = {"controller": network.controller, "mapper": network.mapper}
        groups = [
            {"part": name, "params": list(part.parameters())}
            for name, part in parts.items()
            if part is not None
        ]
        taken = {id(parameter) for group in groups for parameter in group["params"]}
        rest = [p for p in self.model.parameters() if id(p) not in taken]
        return [{"part": "rest", "params": rest}, *groups]

    def _loss_parts(self, losses: Any) -> dict[str, float]:
        named = super()._loss_parts(losses)
        if isinstance(losses, tuple) and len(losses) > 1:
            named |= dict(zip(("next item", "structure"), losses, strict=True))
        return named

    def _generate_train_loss_output(
        self, epoch_idx: int, s_time: float, e_time: float, losses: Any
    ) -> str:
        """RecBole's line for the sum, then each part by its name and what the hooks found."""
        shown = self._loss_parts(losses)
        line: str = super()._generate_train_loss_output(
            epoch_idx, s_time, e_time, shown.pop("loss")
        )
        words = self._words({**shown, **self._numbers})
        return f"{line[:-1]}, {words}]" if words else line
