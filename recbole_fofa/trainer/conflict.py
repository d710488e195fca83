"""Gradient conflict: do users with different structures pull the same parameters apart?

The paper's claim (abstract) is that they do with shared weights, and that one mapper per block
keeps them apart. This measures it while a model trains.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recbole_fofa.recommender.sequence_recommender import States
from recbole_fofa.trainer.hooks import Hook, Numbers, Step

if TYPE_CHECKING:
    from recbole.data.interaction import Interaction

    from recbole_fofa.trainer.trainer import FofaTrainer

SMALLEST_GROUP = 4
"""Users of one structure that a batch must have; the gradient of fewer is mostly noise."""


class GradientConflictMonitor(Hook):
    """Cosines between the gradients of groups of users, every ``conflict_every`` steps.

    Measured are two kinds of pairs: groups with different structures, and, as the yardstick, the
    two halves of a group with one structure. Costs a forward and some backward passes each time;
    changes neither the training nor its random numbers.
    """

    def __init__(self) -> None:
        self._different: dict[str, list[Tensor]] = defaultdict(list)
        self._same: dict[str, list[Tensor]] = defaultdict(list)

    def on_epoch_start(self, trainer: FofaTrainer, epoch: int) -> None:
        """Start anew."""
        self._different.clear()
        self._same.clear()

    def on_step_end(self, trainer: FofaTrainer, step: Step) -> None:
        """Measure on the batch of this step."""
        if step.number % trainer.model.settings.conflict_every:
            return
        devices = [trainer.device] if trainer.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            different, same = group_cosines(trainer.model, step.interaction)
        for kept, found in ((self._different, different), (self._same, same)):
            for kind, cosines in found.items():
                kept[kind] += cosines

    def on_epoch_end(self, trainer: FofaTrainer, epoch: int) -> Numbers:
        """Mean cosine and share of negative ones, for each kind of parameters."""
        numbers: dict[str, float] = {}
        for pairs, found in (("different", self._different), ("same", self._same)):
            for kind, cosines in found.items():
                values = torch.stack(cosines).double()
                numbers[f"{kind} cosine {pairs}"] = values.mean().item()
                numbers[f"{kind} negative {pairs}"] = (values < 0).double().mean().item()
                numbers[f"{kind} pairs {pairs}"] = float(len(values))
        return numbers


def holders(network: Any) -> Iterator[tuple[str, list[Tensor]]]:
    """What holds the blocks' parameters: ``base``, shared weights, and ``mapper``, hypernetworks.

    Yields:
        Kind, and the parameters of one holder: one block's base, or one hypernetwork.
    """
    for base in network.base:
        parameters = list(base.parameters())
        if parameters:
            yield "base", parameters
    if network.mapper is not None:
        for hypernetwork in network.mapper.hypernetworks:
            yield "mapper", list(hypernetwork.parameters())


Cosines = dict[str, list[Tensor]]


def group_cosines(model: Any, interaction: Interaction) -> tuple[Cosines, Cosines]:
    """Cosines between gradients of the next-item loss, by kind of holder.

    Args:
        model: A :class:`ForwardOFA` in training mode; structures are sampled as in training.
        interaction: A training batch.

    Returns:
        Between groups with different structures, and between halves of one group.
    """
    held = list(holders(model.network))
    parameters = [parameter for _, part in held for parameter in part]
    with thawed(parameters):
        adaptation = model.adapt(*model._behaviour(interaction))
        hidden = model.encode(interaction[model.ITEM_SEQ], adaptation)
        states = States(hidden, adaptation.repeat_bias)

        def gradients(users: Tensor) -> list[Tensor]:
            loss = model.next_item_loss(states, interaction, users)
            found = torch.autograd.grad(
                loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            rest = iter(found)
            return [torch.cat([next(rest).flatten() for _ in part]) for _, part in held]

        groups, halves = [], []
        _, group_of = (adaptation.structure.detach() > 0).unique(dim=0, return_inverse=True)
        for group in group_of.unique():
            users = group_of == group
            if int(users.sum()) >= SMALLEST_GROUP:
                groups.append(gradients(users))
            if int(users.sum()) >= 2 * SMALLEST_GROUP:
                odd = users & (users.cumsum(0) % 2 == 1)
                halves.append((gradients(odd), gradients(users & ~odd)))
    kinds = [kind for kind, _ in held]
    return _cosines(kinds, list(combinations(groups, 2))), _cosines(kinds, halves)


@contextmanager
def thawed(parameters: Sequence[Tensor]) -> Iterator[None]:
    """For a time all take gradients, those too that this step or epoch does not train."""
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _cosines(kinds: list[str], pairs: list[tuple[list[Tensor], list[Tensor]]]) -> Cosines:
    """Cosines of each holder's two gradients; without those who send it nothing."""
    found: Cosines = defaultdict(list)
    for one, other in pairs:
        for kind, a, b in zip(kinds, one, other, strict=True):
            if bool(a.any()) and bool(b.any()):
                found[kind].append(torch.cosine_similarity(a, b, dim=0))
    return found
