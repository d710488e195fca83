"""DUET as a baseline: a static backbone, and a head that is generated for each user."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from recbole_fofa.model.duet import GeneratedHead
from recbole_fofa.model.network import AdaptiveNetwork
from recbole_fofa.recommender.build import build_backbone
from recbole_fofa.recommender.sequence_recommender import (
    SequenceRecommender,
    States,
    own_settings,
)
from recbole_fofa.settings import DUETSettings


class DUET(SequenceRecommender):
    """DUET (WWW 2023) on any of the backbones, in the same training as :class:`ForwardOFA`.

    Generated are the two dense layers after the encoder, as in the public code; the encoder is
    shared by all users. The public code leaves its generator untrained, because the optimizer is
    never told of it: ``frozen_generator: true`` does the same, the default trains it. Ours are the
    losses and the training of this package (the public code has click labels and 1:4 negatives),
    and item embeddings without the dense layer that the public code puts behind them.

    Args:
        config: RecBole's config; read once, into :class:`DUETSettings`.
        dataset: The training split.
    """

    settings: DUETSettings

    def __init__(self, config: Any, dataset: Any) -> None:
        settings = own_settings(DUETSettings, config)
        super().__init__(config, dataset, settings)
        self.network = AdaptiveNetwork(
            build_backbone(settings, self.max_seq_length),
            None,
            None,
            structure_guided=False,
            initializer_range=settings.initializer_range,
        )
        self.head = GeneratedHead(settings.hidden_size, frozen=settings.frozen_generator)

    def states(self, interaction: Any) -> States:
        """The shared encoder, then each user's own head."""

        def run(part: Any, _: Tensor) -> tuple[Tensor, ...]:
            behaviour, lengths = self._behaviour(part)
            behaviour_emb = self.item_embedding(behaviour)
            shared = self.network.adapt(behaviour_emb, lengths)
            hidden = self.network(self.item_embedding(part[self.ITEM_SEQ]), shared)
            return (self.head(hidden, behaviour_emb, lengths),)

        return States(self._by_length(interaction, run)[0])
