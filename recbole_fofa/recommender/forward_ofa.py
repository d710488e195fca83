"""Forward-OFA as a RecBole sequential model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor, nn

from recbole_fofa.data.dataset import ADAPT_PREFIX
from recbole_fofa.data.session_loader import NEGATIVES, TARGETS
from recbole_fofa.errors import ConfigError
from recbole_fofa.model.backbone import BACKBONES
from recbole_fofa.model.controller import StructureController
from recbole_fofa.model.losses import (
    bayesian_personalized_ranking,
    binary_cross_entropy,
    cross_entropy,
    pairwise_scores,
    structure_term,
)
from recbole_fofa.model.mapper import StructureGuidedMapper
from recbole_fofa.model.network import Adaptation, AdaptiveNetwork
from recbole_fofa.model.structure import keep_probabilities
from recbole_fofa.model.weights import dense_parameters
from recbole_fofa.settings import ForwardOFASettings


class ForwardOFA(SequentialRecommender):
    """Forward once for all (KDD 2025): structure and parameters for each user in one forward pass.

    One item table (Figure 3a), an :class:`AdaptiveNetwork` (Figure 3b to 3d), scores as dot
    products with the item table. ``adapt`` decides, ``encode`` runs what was decided; between the
    two the decision is a value in the caller's hands, never a state of this module.

    Args:
        config: RecBole's config; read once, into :class:`ForwardOFASettings`.
        dataset: The training split.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.settings = settings = ForwardOFASettings(
            **{name: config[name] for name in ForwardOFASettings.model_fields if name in config}
        )
        self.temperature = settings.temperature_start
        self.keep_all = False
        self.share_base = False
        self.other_parameter_name = ["temperature", "keep_all", "share_base"]
        self.item_embedding = nn.Embedding(self.n_items, settings.hidden_size, padding_idx=0)
        nn.init.normal_(self.item_embedding.weight, std=settings.initializer_range)
        self.network = build_network(settings, self.max_seq_length)

    def adapt(self, behaviour: Tensor, lengths: Tensor, budget: Tensor | None = None) -> Adaptation:
        """Structure and parameters for each user.

        Args:
            behaviour: Ids of the recent items, padded on the right with 0, ``[B, H]``.
            lengths: Number of items of each user, ``[B]``.
            budget: Share of the blocks' MACs that each user may spend, ``[B]``; if not given,
                the setting ``budget`` at inference and a random one for each sample in training.
        """
        if budget is None and self.settings.budget_aware:
            budget = self._default_budget(len(lengths))
        return self.network.adapt(
            self.item_embedding(behaviour),
            lengths,
            budget=budget,
            temperature=self.temperature,
            keep_all=self.keep_all,
            share_base=self.share_base,
        )

    def encode(self, item_seq: Tensor, adaptation: Adaptation) -> Tensor:
        """Each user's own network on the input ``[B, T]``: hidden states ``[B, T, D]``."""
        hidden: Tensor = self.network(self.item_embedding(item_seq), adaptation)
        return hidden

    def forward(self, item_seq: Tensor, item_seq_len: Tensor, adaptation: Adaptation) -> Tensor:
        """State after each user's last item: ids ``[B, T]`` and lengths ``[B]`` to ``[B, D]``."""
        hidden = self.encode(item_seq, adaptation)
        last: Tensor = self.gather_indexes(hidden, item_seq_len - 1)
        return last

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        """Next-item loss and, with a controller, the weighted structure term."""
        adaptation = self.adapt(*self._behaviour(interaction))
        if TARGETS in interaction:
            hidden = self.encode(interaction[self.ITEM_SEQ], adaptation)
            asked = interaction[TARGETS] > 0
            hidden, targets = hidden[asked], interaction[TARGETS][asked]
            negatives = interaction[NEGATIVES][asked] if NEGATIVES in interaction else None
        else:
            item_seq, lengths = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
            hidden, targets = (
                self.forward(item_seq, lengths, adaptation),
                interaction[self.POS_ITEM_ID],
            )
            negatives = interaction[self.NEG_ITEM_ID] if self.NEG_ITEM_ID in interaction else None
        losses: tuple[Tensor, ...] = (self._next_item_loss(hidden, targets, negatives),)
        chosen = adaptation.logits is not None and not self.keep_all
        if chosen and self.settings.structure_weight > 0:
            term = structure_term(adaptation.logits, self.settings.target_keep_rate)
            losses += (self.settings.structure_weight * term,)
        return losses

    def predict(self, interaction: Any) -> Tensor:
        """Score of each row's own item, ``[B]``."""
        return pairwise_scores(
            self._user_vectors(interaction), interaction[self.ITEM_ID], self.item_embedding.weight
        )

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items, ``[B, N]``."""
        return self._user_vectors(interaction) @ self.item_embedding.weight.T

    def structures(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """Structure ``[B, L]`` and soft keep probabilities ``[B, L]`` of a batch's users."""
        adaptation = self.adapt(*self._behaviour(interaction))
        if adaptation.logits is None:
            return adaptation.structure, adaptation.structure
        return adaptation.structure, keep_probabilities(adaptation.logits)

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

    def _user_vectors(self, interaction: Any) -> Tensor:
        adaptation = self.adapt(*self._behaviour(interaction))
        return self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN], adaptation)

    def _behaviour(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """What adaptation reads; the input itself where a batch brings nothing longer."""
        if ADAPT_PREFIX + self.ITEM_SEQ in interaction:
            return (
                interaction[ADAPT_PREFIX + self.ITEM_SEQ],
                interaction[ADAPT_PREFIX + self.ITEM_SEQ_LEN],
            )
        return interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]

    def _default_budget(self, n_users: int) -> Tensor:
        """In float64, in which shares of whole MACs are told apart.

        In training, a share that is just enough for the cheapest 1, 2, .. or all blocks: any
        other one would act like the next lower of these.
        """
        device = self.item_embedding.weight.device
        if not self.training:
            share = self.settings.budget or 1.0
            return torch.full((n_users,), share, dtype=torch.float64, device=device)
        macs = torch.tensor(sorted(self.network.block_macs), dtype=torch.float64, device=device)
        shares = macs.cumsum(0) / macs.sum()
        return shares[torch.randint(len(shares), (n_users,), device=device)]

    def _next_item_loss(self, hidden: Tensor, targets: Tensor, negatives: Tensor | None) -> Tensor:
        table = self.item_embedding.weight
        if self.settings.loss_type == "CE":
            return cross_entropy(hidden, targets, table)
        if negatives is None:
            raise ConfigError(
                f"loss_type {self.settings.loss_type} needs sampled negatives, but the batch has "
                "none: leave train_neg_sample_args out, or set loss_type: CE"
            )
        positive = pairwise_scores(hidden, targets, table)
        negative = pairwise_scores(hidden, negatives, table)
        if self.settings.loss_type == "BPR":
            return bayesian_personalized_ranking(positive, negative)
        return binary_cross_entropy(positive, negative)


def build_network(settings: ForwardOFASettings, max_length: int) -> AdaptiveNetwork:
    """The network that the settings describe; every ablation is one of them."""
    sizes: Mapping[str, Any] = settings.model_dump()
    kind = BACKBONES[settings.backbone]
    backbone = kind(max_length=max_length, **{name: sizes[name] for name in kind.setting_names})
    controller = mapper = None
    if settings.use_controller:
        controller = StructureController(
            hidden_size=settings.hidden_size,
            n_layers=settings.n_layers,
            horizon=settings.adapt_seq_length,
            keep_bias=settings.keep_bias,
            budget_aware=settings.budget_aware,
            initializer_range=settings.initializer_range,
        )
    if settings.use_mapper:
        mapper = StructureGuidedMapper(
            backbone.blocks,
            hidden_size=settings.hidden_size,
            horizon=settings.adapt_seq_length,
            parallel=settings.parallel_mappers,
            form=settings.mapper_form,
            rank=settings.mapper_rank,
            scale=settings.mapper_scale,
            initializer_range=settings.initializer_range,
        )
    return AdaptiveNetwork(
        backbone,
        controller,
        mapper,
        structure_guided=settings.structure_guided,
        initializer_range=settings.initializer_range,
    )
