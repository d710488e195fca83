"""What the gates do while they train: a metric does not tell when they settle on one pattern."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recbole_fofa import processes
from recbole_fofa.model.network import Adaptation
from recbole_fofa.model.structure import count_structures, keep_probabilities
from recbole_fofa.trainer.hooks import Hook, Numbers

if TYPE_CHECKING:
    from recbole_fofa.settings import ForwardOFASettings
    from recbole_fofa.trainer.trainer import FofaTrainer

COLLAPSED = 0.99
"""Share of users with one and the same structure from which on there is a warning."""


class StructureMonitor(Hook):
    """Keep rates in training; in each validation who gets which structure, and a warning.

    Reads what the network is handed, so it costs no forward pass and draws nothing.
    """

    def __init__(self) -> None:
        self._trained = _Seen()
        self._evaluated = _Seen()
        self._is_warned = False
        self._watched: Any = None

    def on_train_start(self, trainer: FofaTrainer) -> None:
        """Watch the network."""
        if self._watched is None:
            self._watched = trainer.model.network.register_forward_pre_hook(self._see)

    def on_epoch_start(self, trainer: FofaTrainer, epoch: int) -> None:
        """Start counting anew."""
        self._trained, self._evaluated = _Seen(), _Seen()

    def on_epoch_end(self, trainer: FofaTrainer, epoch: int) -> Numbers:
        """Mean keep probability over all blocks, and of each."""
        found = self._trained.stacked()
        return keep_rates(found[1]) if found is not None else {}

    def on_evaluation_end(
        self, trainer: FofaTrainer, epoch: int, result: Mapping[str, float]
    ) -> Numbers:
        """Distribution of the structures of the users who were evaluated."""
        found, self._evaluated = self._evaluated.stacked(), _Seen()
        if found is None:
            return {}
        structure, soft = found
        settings = trainer.model.settings
        # With a budget for all blocks, to keep them all is what was asked for; one is always kept.
        is_meant = trainer.model.keep_all or target_keep_rate(settings) == 1.0
        is_meant = is_meant or structure.shape[1] == 1
        collapsed = not is_meant and is_collapsed(structure)
        if collapsed and not self._is_warned:
            trainer.logger.warning(collapse_message(structure, soft, settings, epoch))
        self._is_warned = collapsed
        return distribution(structure, soft)

    @property
    def latest_keep_rate(self) -> Tensor | None:
        """Mean keep probability of the latest training batch."""
        return self._trained.soft[-1].mean() if self._trained else None

    def _see(self, network: Any, inputs: tuple[Any, ...]) -> None:
        adaptation: Adaptation = inputs[1]
        if adaptation.logits is not None:
            (self._trained if network.training else self._evaluated).add(adaptation)


class _Seen:
    """Structures and keep probabilities of the batches seen; stay on the device till asked for."""

    def __init__(self) -> None:
        self.structures: list[Tensor] = []
        self.soft: list[Tensor] = []

    def __bool__(self) -> bool:
        return bool(self.soft)

    def add(self, adaptation: Adaptation) -> None:
        self.structures.append(adaptation.structure.detach())
        self.soft.append(keep_probabilities(adaptation.logits.detach()))  # type: ignore[union-attr]

    def stacked(self) -> tuple[Tensor, Tensor] | None:
        """Both ``[n, L]``, on the CPU, of all processes; ``None`` if none has seen any."""
        own = (
            (torch.cat(self.structures).cpu(), torch.cat(self.soft).double().cpu()) if self else ()
        )
        everybodys = [found for found in processes.all_gather(own) if found]
        if not everybodys:
            return None
        structures, soft = zip(*everybodys, strict=True)
        return torch.cat(structures), torch.cat(soft)


def keep_rates(soft: Tensor) -> dict[str, float]:
    """Mean keep probability, and that of each block, from ``[n, L]``."""
    rates = soft.mean(0).tolist()
    blocks = {f"keep rate {index}": rate for index, rate in enumerate(rates)}
    return {"keep rate": soft.mean().item(), **blocks}


def distribution(structure: Tensor, soft: Tensor) -> dict[str, float]:
    """How structures are spread over users, from ``[n, L]`` each.

    Returns:
        Distinct structures; their entropy in bits; shares of users who keep all and no blocks;
        the gap, the mean distance of a keep probability from the decision that was taken; the
        share of users who keep each block.
    """
    counts = count_structures(structure)
    shares = torch.tensor(list(counts.values()), dtype=torch.float64) / len(structure)
    kept = structure > 0
    rates = kept.double().mean(0).tolist()
    return {
        "structures": float(len(counts)),
        "entropy": max(0.0, -(shares * shares.log2()).sum().item()),
        "all kept": kept.all(1).double().mean().item(),
        "none kept": (~kept.any(1)).double().mean().item(),
        "soft-hard gap": (soft - structure.double()).abs().mean().item(),
        **{f"kept {index}": rate for index, rate in enumerate(rates)},
    }


def is_collapsed(structure: Tensor) -> bool:
    """Whether nearly all of several users have one structure, ``[n, L]``."""
    most = max(count_structures(structure).values())
    return len(structure) > 1 and most >= COLLAPSED * len(structure)


def target_keep_rate(settings: ForwardOFASettings) -> float:
    """What validation is held at by the structure term."""
    return settings.budget or 1.0 if settings.budget_aware else settings.target_keep_rate


def collapse_message(
    structure: Tensor, soft: Tensor, settings: ForwardOFASettings, epoch: int
) -> str:
    """Say that the gates have collapsed, and which setting to change."""
    pattern, n_users = next(iter(count_structures(structure).items()))
    mean, target, weight = soft.mean().item(), target_keep_rate(settings), settings.structure_weight
    if abs(mean - target) < 0.1 and weight > 0:
        advice = (
            f"the structure term holds everybody at the target: lower structure_weight ({weight})"
        )
    elif mean > target:
        advice = f"blocks stay open: raise structure_weight ({weight})"
    else:
        advice = (
            "blocks closed before they had learned anything: raise controller_warmup_epochs "
            f"({settings.controller_warmup_epochs}) or keep_bias ({settings.keep_bias})"
        )
    return (
        f"structure collapse in epoch {epoch}: {n_users} of {len(structure)} users get "
        f"the structure {pattern}, so the controller chooses for nobody. Mean keep probability "
        f"{mean:.3f}, target {target}; {advice}"
    )
