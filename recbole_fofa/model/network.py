"""The assembled network: a backbone, a structure and parameters (Figure 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recbole_fofa.model.backbone.base import Backbone
from recbole_fofa.model.batch import WHOLE, Noise
from recbole_fofa.model.controller import StructureController
from recbole_fofa.model.mapper import StructureGuidedMapper
from recbole_fofa.model.structure import (
    keep_margins,
    sample_structure,
    select_structure,
    within_budget,
)
from recbole_fofa.model.weights import BlockParameters, parameters_of_users

_SHARED_STEP = 64.0
"""A step of Adam moves one number by the learning rate, and a generated one by that of each weight
behind it: so many times as far."""


@dataclass(frozen=True)
class Decision:
    """What a device sends to the cloud, for each user of a batch.

    Attributes:
        structure: 1 for a kept and 0 for a dropped block, ``[B, L]``.
        interest: Structure-related interest ``[B, D]``; ``None`` where all users share the base.
        logits: The controller's, ``[B, L, 2]``; ``None`` without a controller.
    """

    structure: Tensor
    interest: Tensor | None
    logits: Tensor | None


@dataclass(frozen=True)
class Adaptation:
    """What one forward pass decides for each user of a batch; a value, never kept by a module.

    Attributes:
        structure: 1 for a kept and 0 for a dropped block, ``[B, L]``.
        parameters: For each block its tensors by name: ``[B, *shape]``, ``[*shape]`` where all
            users share them, or factors (:class:`LowRankWeight`); ``None`` for a block that
            nobody in the batch keeps.
        logits: The controller's, ``[B, L, 2]``; ``None`` without a controller.
        output_bias: What is added to the hidden states, ``[B, D]``; ``None`` if nothing is.
        repeat_bias: What is added to the scores of items that the user has had, ``[B]``; ``None``
            if nothing is.
    """

    structure: Tensor
    parameters: tuple[BlockParameters | None, ...]
    logits: Tensor | None
    output_bias: Tensor | None = None
    repeat_bias: Tensor | None = None


class AdaptiveNetwork(nn.Module):
    """Backbone with shared base parameters, structure controller and structure-guided mapper.

    Without a controller every block is kept; without a mapper all users share the base; without
    both it is the static backbone.

    Args:
        backbone: The on-device network.
        controller: Chooses the blocks, or ``None``.
        mapper: Generates the parameters, or ``None``.
        structure_guided: Whether the structural vector starts the mapper's extractor.
        initializer_range: Standard deviation of the base's initial matrices.
        shared_repeat_bias: Whether one number for all users is added to the scores of items that
            a user has had, where the mapper generates none.
    """

    def __init__(
        self,
        backbone: Backbone,
        controller: StructureController | None,
        mapper: StructureGuidedMapper | None,
        *,
        structure_guided: bool,
        initializer_range: float,
        shared_repeat_bias: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.controller = controller
        self.mapper = mapper
        self.structure_guided = structure_guided
        without_base = mapper.without_base if mapper is not None else frozenset()
        self.base = nn.ModuleList(
            nn.ParameterDict(
                {
                    name: nn.Parameter(spec.initial(initializer_range))
                    for name, spec in block.parameters.items()
                    if name not in without_base
                }
            )
            for block in backbone.blocks
        )
        self.shared_repeat_bias = nn.Parameter(torch.zeros(())) if shared_repeat_bias else None
        full_length = backbone.max_length
        self.block_macs = [
            backbone.block_macs(index, full_length) for index in range(len(backbone.blocks))
        ]

    def adapt(self, behaviour: Tensor, lengths: Tensor, **how: Any) -> Adaptation:
        """Decide structure and parameters from the behaviour, in one forward pass.

        The modules are not changed: adapting one user has no effect on another.

        Args:
            behaviour: As in :meth:`decide`.
            lengths: As in :meth:`decide`.
            how: The others of :meth:`decide`.
        """
        return self.generate(self.decide(behaviour, lengths, **how))

    def decide(
        self,
        behaviour: Tensor,
        lengths: Tensor,
        *,
        budget: Tensor | None = None,
        allowed: Tensor | None = None,
        temperature: float = 1.0,
        keep_all: bool = False,
        share_base: bool = False,
        noise: Noise = WHOLE.exponential,
    ) -> Decision:
        """The part of the adaptation that runs on the device.

        In training mode the structure is sampled, at inference it is the argmax.

        Args:
            behaviour: Item embeddings of the recent behaviour, padded on the right, ``[B, H, D]``.
            lengths: Number of items of each user, ``[B]``.
            budget: Share of the blocks' MACs that each user may spend, ``[B]``.
            allowed: Structures that a device can hold, ``[2^L]`` or ``[B, 2^L]`` in the order of
                :func:`all_structures`; if given, they and not the budget are the limit.
            temperature: Of Gumbel-Softmax, in training.
            keep_all: Keep as many blocks as the limit allows, whatever the controller says.
            share_base: All users share the base, whatever the mapper says.
            noise: Of :func:`sample_structure`, in training.
        """
        logits = vector = interest = None
        if self.controller is not None:
            logits = self.controller(behaviour, lengths, budget)
        if allowed is None and budget is not None:
            allowed = within_budget(self.block_macs, budget)
        if keep_all or logits is None:
            equal = behaviour.new_ones(behaviour.shape[0], len(self.base))
            structure = select_structure(equal, allowed)
        elif self.training:
            structure = sample_structure(logits, temperature, allowed, noise)
        else:
            structure = select_structure(keep_margins(logits), allowed)
        if self.mapper is not None and not share_base:
            if self.structure_guided and self.controller is not None and logits is not None:
                vector = self.controller.structural_vector(logits)
            interest = self.mapper.interest(behaviour, lengths, vector)
        return Decision(structure, interest, logits)

    def generate(self, decision: Decision, changed: Tensor | None = None) -> Adaptation:
        """The part of the adaptation that runs in the cloud: all parameters of each user.

        Args:
            decision: What the devices sent.
            changed: 1 for users with parameters of their own, and 0 for those who get the base
                and no output bias, ``[B]``; if not given, all have their own.
        """
        bases: list[dict[str, Tensor]] = [dict(base.named_parameters()) for base in self.base]
        parameters: list[BlockParameters | None] = list(bases)
        output_bias = None
        if self.mapper is not None and decision.interest is not None:
            wanted = [self.training or bool(kept) for kept in decision.structure.any(0)]
            parameters = [
                self.mapper.generate(index, decision.interest, base, changed)
                if wanted[index]
                else None
                for index, base in enumerate(bases)
            ]
            output_bias = self.mapper.output_bias(decision.interest)
            if output_bias is not None and changed is not None:
                output_bias = output_bias * changed.unsqueeze(1)
        repeat_bias = self.repeat_bias(decision.interest, len(decision.structure))
        return Adaptation(
            decision.structure, tuple(parameters), decision.logits, output_bias, repeat_bias
        )

    def repeat_bias(self, interest: Tensor | None, n_users: int) -> Tensor | None:
        """What is added to scores of items that a user has had, ``[B]``; ``None`` if nothing is."""
        if self.shared_repeat_bias is not None:
            return (_SHARED_STEP * self.shared_repeat_bias).expand(n_users)
        if self.mapper is None or interest is None:
            return None
        return self.mapper.repeat_bias(interest)

    def repeat_intercept(self) -> float:
        """The part of the repeat bias that is the same for all users.

        Raises:
            ValueError: If the network has no repeat bias.
        """
        parameter, unit = self._repeat_intercept()
        return unit * parameter.item()

    def set_repeat_intercept(self, value: float) -> None:
        """Replace that part; see :meth:`repeat_intercept`."""
        parameter, unit = self._repeat_intercept()
        with torch.no_grad():
            parameter.fill_(value / unit)

    def _repeat_intercept(self) -> tuple[Tensor, float]:
        """The parameter that holds it, and what the parameter is multiplied by."""
        if self.shared_repeat_bias is not None:
            return self.shared_repeat_bias, _SHARED_STEP
        if self.mapper is None or self.mapper.to_repeat_bias is None:
            raise ValueError("the network has no repeat bias")
        return self.mapper.to_repeat_bias.bias, 1.0

    def forward(self, item_emb: Tensor, adaptation: Adaptation) -> Tensor:
        """Run each user's own network: ``[B, T, D]`` to hidden states ``[B, T, D]``."""
        x = self.backbone.embed(item_emb)
        for index, parameters in enumerate(adaptation.parameters):
            gate = adaptation.structure[:, index]
            if self.training:
                if parameters is not None:
                    y = self.backbone.apply_block(index, x, parameters)
                    gate = gate.view(-1, 1, 1)
                    x = gate * y + (1 - gate) * x
            else:
                x = self._apply_where_kept(index, x, parameters, gate > 0)
        hidden = self.backbone.finish(x)
        if adaptation.output_bias is None:
            return hidden
        return hidden + adaptation.output_bias.unsqueeze(1)

    def _apply_where_kept(
        self, index: int, x: Tensor, parameters: BlockParameters | None, kept: Tensor
    ) -> Tensor:
        """A dropped block costs nothing: it is computed for the users who keep it, and no other."""
        if parameters is None or not bool(kept.any()):
            return x
        if bool(kept.all()):
            return self.backbone.apply_block(index, x, parameters)
        specs = self.backbone.blocks[index].parameters
        own = parameters_of_users(
            parameters, kept, {name: len(spec.shape) for name, spec in specs.items()}
        )
        return torch.index_put(x, (kept,), self.backbone.apply_block(index, x[kept], own))
