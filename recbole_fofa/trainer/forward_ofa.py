"""Trainer of Forward-OFA: schedules, monitors, an optimizer that knows its parts."""

from __future__ import annotations

from typing import Any

import torch

from recbole_fofa.trainer.calibration import RepeatBiasCalibration
from recbole_fofa.trainer.conflict import GradientConflictMonitor
from recbole_fofa.trainer.hooks import Hook
from recbole_fofa.trainer.monitors import StructureMonitor
from recbole_fofa.trainer.schedules import AlternatingSteps, TemperatureSchedule, WarmUp
from recbole_fofa.trainer.sequence import SequenceTrainer


class ForwardOFATrainer(SequenceTrainer):
    """Found by its name through the registry; what it adds to training are its hooks."""

    def _own_hooks(self) -> list[Hook]:
        self._structures = StructureMonitor()
        hooks = [*super()._own_hooks(), TemperatureSchedule(), WarmUp()]
        if self.model.settings.alternate_steps:
            hooks.append(AlternatingSteps())
        if self.model.settings.conflict_every:
            hooks.append(GradientConflictMonitor())
        if self.model.settings.calibrate_repeat_bias:
            hooks.append(RepeatBiasCalibration())
        return [*hooks, self._structures]

    def _keep_rate(self) -> torch.Tensor | None:
        return self._structures.latest_keep_rate

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

    def _named_losses(self, losses: Any) -> dict[str, float]:
        return dict(zip(("next item", "structure"), losses, strict=False))
