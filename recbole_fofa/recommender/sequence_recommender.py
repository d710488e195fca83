"""What the sequential models of this package share: batches in, loss and scores out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_fofa.data.dataset import ADAPT_PREFIX
from recbole_fofa.data.session_loader import NEGATIVES, TARGETS
from recbole_fofa.errors import ConfigError
from recbole_fofa.model.batch import WHOLE, Batch
from recbole_fofa.model.by_length import by_length
from recbole_fofa.model.cross_entropy import cross_entropy
from recbole_fofa.model.losses import (
    bayesian_personalized_ranking,
    binary_cross_entropy,
    pairwise_scores,
)
from recbole_fofa.settings import SequenceSettings


class SequenceRecommender(SequentialRecommender):
    """One item table, a state at every position, scores as dot products.

    Trains on session windows, with a loss at every target, and on prefixes, with a loss at the
    last position.

    Args:
        config: RecBole's config.
        dataset: The training split.
        settings: The model's own settings.

    Attributes:
        batch: What the rows of a training batch are a part of; the trainer sets it.
    """

    def __init__(self, config: Any, dataset: Any, settings: SequenceSettings) -> None:
        super().__init__(config, dataset)
        self.settings = settings
        self.batch: Batch = WHOLE
        self.item_embedding = nn.Embedding(self.n_items, settings.hidden_size, padding_idx=0)
        nn.init.normal_(self.item_embedding.weight, std=settings.initializer_range)

    @abstractmethod
    def hidden_states(self, interaction: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        """State at each input position ``[B, T, D]``, and further terms of the loss.

        States of padding are not defined.
        """

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        """Next-item loss, then the model's further terms; all of the whole :attr:`batch`."""
        hidden, terms = self.hidden_states(interaction)
        loss = self.batch.mean_over_targets(self.next_item_loss(hidden, interaction))
        return (loss, *terms)

    def next_item_loss(
        self, hidden: Tensor, interaction: Any, users: Tensor | None = None
    ) -> Tensor:
        """Mean loss over the targets of a batch.

        Args:
            hidden: ``[B, T, D]``.
            interaction: The batch.
            users: Boolean mask ``[B]``; only the targets of these rows count.
        """
        if TARGETS in interaction:
            asked = interaction[TARGETS] > 0
            if users is not None:
                asked = asked & users.unsqueeze(1)
            hidden, targets = hidden[asked], interaction[TARGETS][asked]
            negatives = interaction[NEGATIVES][asked] if NEGATIVES in interaction else None
        else:
            rows = slice(None) if users is None else users
            hidden = self._last(hidden, interaction)[rows]
            targets = interaction[self.POS_ITEM_ID][rows]
            has_negatives = self.NEG_ITEM_ID in interaction
            negatives = interaction[self.NEG_ITEM_ID][rows] if has_negatives else None
        return self._loss(hidden, targets, negatives)

    def predict(self, interaction: Any) -> Tensor:
        """Score of each row's own item, ``[B]``."""
        return pairwise_scores(
            self._user_vectors(interaction), interaction[self.ITEM_ID], self.item_embedding.weight
        )

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items, ``[B, N]``."""
        return self._user_vectors(interaction) @ self.item_embedding.weight.T

    def _user_vectors(self, interaction: Any) -> Tensor:
        """The states that are scored, ``[B, D]``: of ``adapt_chunk`` users at a time.

        That bounds the memory of what is generated. Users of a chunk have histories of similar
        length, and most padding is never computed.
        """
        order = self._lengths(interaction).argsort(stable=True)
        vectors = []
        for chosen in order.split(self.settings.adapt_chunk or len(order)):
            rows = interaction[chosen]
            vectors.append(self._last(self.hidden_states(rows)[0], rows))
        return torch.cat(vectors)[order.argsort()]

    def _by_length(
        self, interaction: Any, run: Callable[[Any, Tensor], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """Run rows of similar length together, and return the results in the order of the rows.

        Args:
            interaction: The batch.
            run: From some rows, cut to the longest, and their indices ``[b]``, to their hidden
                states ``[b, t, D]`` and any other results ``[b, ...]``.

        Returns:
            Hidden states ``[B, T, D]``, and the other results.
        """
        length = interaction[self.ITEM_SEQ].shape[1]

        def padded(rows: Tensor) -> tuple[Tensor, ...]:
            hidden, *others = run(self._cut_to_longest(interaction[rows]), rows)
            return F.pad(hidden, (0, 0, 0, length - hidden.shape[1])), *others

        return by_length(self._lengths(interaction), padded)

    def _lengths(self, interaction: Any) -> Tensor:
        """Items that each row's network and adaptation read, ``[B]``."""
        lengths: Tensor = interaction[self.ITEM_SEQ_LEN] + self._behaviour(interaction)[1]
        return lengths

    def _cut_to_longest(self, interaction: Any) -> Interaction:
        """The same rows without the columns that are padding in all of them."""
        fields = dict(interaction.interaction)
        for prefix in ("", ADAPT_PREFIX):
            name = prefix + self.ITEM_SEQ
            if name in fields:
                longest = max(1, int(fields[prefix + self.ITEM_SEQ_LEN].max()))
                fields[name] = fields[name][:, :longest]
        return Interaction(fields)

    def _last(self, hidden: Tensor, interaction: Any) -> Tensor:
        last: Tensor = self.gather_indexes(hidden, interaction[self.ITEM_SEQ_LEN] - 1)
        return last

    def _behaviour(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """What adaptation reads; the input itself where a batch brings nothing longer."""
        if ADAPT_PREFIX + self.ITEM_SEQ in interaction:
            return (
                interaction[ADAPT_PREFIX + self.ITEM_SEQ],
                interaction[ADAPT_PREFIX + self.ITEM_SEQ_LEN],
            )
        return interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]

    def _loss(self, hidden: Tensor, targets: Tensor, negatives: Tensor | None) -> Tensor:
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


def own_settings(schema: type[Any], config: Any) -> Any:
    """A model's settings from RecBole's config."""
    return schema(**{name: config[name] for name in schema.model_fields if name in config})
