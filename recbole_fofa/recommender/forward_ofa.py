"""Forward-OFA as a RecBole sequential model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from recbole_fofa.model.batch import Noise, noise_of_rows
from recbole_fofa.model.losses import budget_term, structure_term
from recbole_fofa.model.network import Adaptation, Decision
from recbole_fofa.model.structure import keep_probabilities
from recbole_fofa.model.weights import dense_parameters
from recbole_fofa.recommender.build import build_network
from recbole_fofa.recommender.sequence_recommender import (
    SequenceRecommender,
    States,
    own_settings,
)
from recbole_fofa.settings import ForwardOFASettings


class ForwardOFA(SequenceRecommender):
    """Forward once for all (KDD 2025): structure and parameters for each user in one forward pass.

    One item table (Figure 3a), an :class:`AdaptiveNetwork` (Figure 3b to 3d), scores as dot
    products with the item table. ``adapt`` decides, ``encode`` runs what was decided; between the
    two the decision is a value in the caller's hands, never a state of this module.

    Args:
        config: RecBole's config; read once, into :class:`ForwardOFASettings`.
        dataset: The training split.

    Attributes:
        temperature: Of Gumbel-Softmax; the trainer's schedules set it, and the two below.
        keep_all: Whether every block is kept that the budget allows (warm-up of the controller).
        share_base: Whether all users share the base (warm-up of the mapper).
    """

    settings: ForwardOFASettings

    def __init__(self, config: Any, dataset: Any) -> None:
        settings = own_settings(ForwardOFASettings, config)
        super().__init__(config, dataset, settings)
        self.repeats_as_negatives = settings.repeats_as_negatives
        self.temperature = settings.temperature_start
        self.keep_all = False
        self.share_base = False
        self.other_parameter_name = ["temperature", "keep_all", "share_base"]
        self.network = build_network(settings, self.max_seq_length)

    def adapt(
        self,
        behaviour: Tensor,
        lengths: Tensor,
        budget: Tensor | None = None,
        allowed: Tensor | None = None,
    ) -> Adaptation:
        """Structure and parameters for each user; see :meth:`decide`."""
        return self.network.generate(self.decide(behaviour, lengths, budget, allowed))

    def decide(
        self,
        behaviour: Tensor,
        lengths: Tensor,
        budget: Tensor | None = None,
        allowed: Tensor | None = None,
        noise: Noise | None = None,
    ) -> Decision:
        """The part of the adaptation that runs on the device.

        Args:
            behaviour: Ids of the recent items, padded on the right with 0, ``[B, H]``.
            lengths: Number of items of each user, ``[B]``.
            budget: Share of the blocks' MACs that each user may spend, ``[B]``; if not given,
                the setting ``budget`` at inference and a random one for each sample in training.
            allowed: Structures that a device can hold, see :meth:`AdaptiveNetwork.decide`.
            noise: Of the structures in training; the batch's if not given.
        """
        if budget is None and self.settings.budget_aware:
            budget = self._default_budget(len(lengths))
        return self.network.decide(
            self.item_embedding(behaviour),
            lengths,
            budget=budget,
            allowed=allowed,
            temperature=self.temperature,
            keep_all=self.keep_all,
            share_base=self.share_base,
            noise=noise or self.batch.exponential,
        )

    def encode(self, item_seq: Tensor, adaptation: Adaptation) -> Tensor:
        """Each user's own network on the input ``[B, T]``: hidden states ``[B, T, D]``."""
        hidden: Tensor = self.network(self.item_embedding(item_seq), adaptation)
        return hidden

    def states(self, interaction: Any) -> States:
        """Adapt, then encode; with a controller, the weighted structure term too."""
        budget = self._default_budget(len(interaction)) if self.settings.budget_aware else None
        noise = noise_of_rows(self.batch.exponential, len(interaction))
        changed = self._changed(len(interaction))

        def run(part: Any, rows: Tensor) -> tuple[Tensor, ...]:
            own = None if budget is None else budget[rows]
            decision = self.decide(*self._behaviour(part), own, noise=noise(rows))
            own_changed = None if changed is None else changed[rows]
            adaptation = self.network.generate(decision, own_changed)
            hidden = self.encode(part[self.ITEM_SEQ], adaptation)
            others = decision.logits, adaptation.repeat_bias
            return hidden, *(other for other in others if other is not None)

        hidden, *others = self._by_length(interaction, run)
        logits = others.pop(0) if self.network.controller is not None else None
        repeat_bias = others.pop(0) if others else None
        weight = self.settings.structure_weight
        if logits is None or self.keep_all or weight == 0:
            return States(hidden, repeat_bias)
        return States(hidden, repeat_bias, (weight * self._structure_term(logits, budget),))

    def structures(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """Structure ``[B, L]`` and soft keep probabilities ``[B, L]`` of a batch's users."""
        distinct, back = self.distinct_rows(interaction)
        adaptation = self.adapt(*self._behaviour(distinct))
        structure = adaptation.structure[back]
        if adaptation.logits is None:
            return structure, structure
        return structure, keep_probabilities(adaptation.logits)[back]

    def non_finite_parts(self, interaction: Any) -> Iterator[str]:
        """Names of all parameters, learned and generated, that hold NaN or infinity."""
        for name, parameter in self.named_parameters():
            if not bool(parameter.isfinite().all()):
                yield f"parameter {name}"
        adaptation = self.adapt(*self._behaviour(interaction))
        for block, tensors in zip(self.network.backbone.blocks, adaptation.parameters, strict=True):
            for name, value in dense_parameters(tensors or {}).items():
                if not bool(value.isfinite().all()):
                    yield f"generated tensor {block.name}.{name}"

    def _structure_term(self, logits: Tensor, budget: Tensor | None) -> Tensor:
        if budget is not None:
            budgets = self._budgets()
            return budget_term(logits, self.network.block_macs, budget, budgets, self.batch)
        return structure_term(logits, self.settings.target_keep_rate, self.batch)

    def _changed(self, n_users: int) -> Tensor | None:
        """Who of a training batch gets parameters of their own, ``[B]``; ``None`` for all."""
        rate = self.settings.mapper_dropout
        if not self.training or rate == 0 or self.network.mapper is None or self.share_base:
            return None
        # An exponential variable is below -log(1 - p) with probability p.
        noise = self.batch.exponential(self.item_embedding.weight.new_empty(n_users))
        return (noise > -math.log1p(-rate)).to(noise.dtype)

    def _default_budget(self, n_users: int) -> Tensor:
        """The setting's for all at inference; in training, a random one for each, ``[n_users]``."""
        budgets = self._budgets()
        if not self.training:
            return budgets.repeat(n_users)
        return budgets[self.batch.integers(len(budgets), n_users, budgets.device)]

    def _budgets(self) -> Tensor:
        """All default budgets, in rising order; float64 tells shares of whole MACs apart.

        In training, a share that is just enough for the cheapest 1, 2, .. or all blocks: any
        other one would act like the next lower of these.
        """
        device = self.item_embedding.weight.device
        if not self.training:
            share = self.settings.budget or 1.0
            return torch.tensor([share], dtype=torch.float64, device=device)
        macs = torch.tensor(sorted(self.network.block_macs), dtype=torch.float64, device=device)
        return macs.cumsum(0) / macs.sum()
