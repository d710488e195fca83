"""What the sequential models of this package share: batches in, loss and scores out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_fofa.data.dataset import ADAPT_PREFIX, POSITION, SEEN_PREFIX
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
from recbole_fofa.model.piece_size import of_device
from recbole_fofa.model.repeats import Repeats, each_among, each_once
from recbole_fofa.settings import SequenceSettings

CHUNKS_AT_ONCE = {"cpu": 1, "other": 16}
"""So many times ``adapt_chunk``: a GPU has the memory, and waits between small chunks."""


@dataclass(frozen=True)
class States:
    """What a model makes of a batch.

    Attributes:
        hidden: State at each input position, ``[B, T, D]``; those of padding are not defined.
        repeat_bias: Added to the scores of what a user has had, ``[B]``; ``None`` if nothing is.
        terms: Further terms of the loss.
    """

    hidden: Tensor
    repeat_bias: Tensor | None = None
    terms: tuple[Tensor, ...] = ()


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
        repeats_as_negatives: Whether a repeat bias alone learns from the scores that it changes.
    """

    repeats_as_negatives = False

    def __init__(self, config: Any, dataset: Any, settings: SequenceSettings) -> None:
        super().__init__(config, dataset)
        self.settings = settings
        self.batch: Batch = WHOLE
        self.item_embedding = nn.Embedding(self.n_items, settings.hidden_size, padding_idx=0)
        nn.init.normal_(self.item_embedding.weight, std=settings.initializer_range)

    @abstractmethod
    def states(self, interaction: Any) -> States:
        """What the model makes of a batch."""

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        """Next-item loss, then the model's further terms; all of the whole :attr:`batch`."""
        states = self.states(interaction)
        loss = self.batch.mean_over_targets(self.next_item_loss(states, interaction))
        return (loss, *states.terms)

    def next_item_loss(
        self, states: States, interaction: Any, users: Tensor | None = None
    ) -> Tensor:
        """Mean loss over the targets of a batch.

        Args:
            states: Of the batch.
            interaction: The batch.
            users: Boolean mask ``[B]``; only the targets of these rows count.
        """
        if TARGETS in interaction:
            asked = interaction[TARGETS] > 0
            if users is not None:
                asked = asked & users.unsqueeze(1)
            targets = interaction[TARGETS][asked]
            negatives = interaction[NEGATIVES][asked] if NEGATIVES in interaction else None
            rows, places = asked.nonzero(as_tuple=True)
        else:
            rows = torch.arange(len(interaction), device=states.hidden.device)
            rows = rows if users is None else rows[users]
            places = interaction[self.ITEM_SEQ_LEN][rows] - 1
            targets = interaction[self.POS_ITEM_ID][rows]
            has_negatives = self.NEG_ITEM_ID in interaction
            negatives = interaction[self.NEG_ITEM_ID][rows] if has_negatives else None
        repeats = self._repeats(states.repeat_bias, interaction, rows, places)
        return self._loss(states.hidden[rows, places], targets, negatives, repeats)

    def predict(self, interaction: Any) -> Tensor:
        """Score of each row's own item, ``[B]``."""
        distinct, back = self.distinct_rows(interaction)
        vectors, repeats = self._scored_states(distinct)
        if repeats is not None:
            repeats = Repeats(repeats.seen[back], repeats.bias[back])
        items, table = interaction[self.ITEM_ID], self.item_embedding.weight
        return _own_scores(vectors[back], items, table, repeats)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items, ``[B, N]``."""
        vectors, repeats = self._scored_states(interaction)
        scores = vectors @ self.item_embedding.weight.T
        return scores if repeats is None else repeats.added_to(scores)

    def distinct_rows(self, interaction: Any) -> tuple[Interaction, Tensor]:
        """Rows of different histories, and for each row of the batch its like among them, ``[B]``.

        Where a target is ranked among sampled items, a history comes once for each of them.
        """
        if POSITION not in interaction:  # files split beforehand
            return interaction, torch.arange(len(interaction), device=self.device)
        positions, back = interaction[POSITION].unique(return_inverse=True)
        rows = torch.arange(len(back), device=back.device)
        first = torch.zeros_like(positions).scatter_(0, back, rows)
        return interaction[first], back

    def _scored_states(self, interaction: Any) -> tuple[Tensor, Repeats | None]:
        """The states that are scored, ``[B, D]``: of :meth:`users_at_once` at a time.

        That bounds the memory of what is generated. Users of a chunk have histories of similar
        length, and most padding is never computed.
        """
        order = self._lengths(interaction).argsort(stable=True)
        vectors, biases = [], []
        for chosen in order.split(self.users_at_once(len(order))):
            rows = interaction[chosen]
            states = self.states(rows)
            vectors.append(self._last(states.hidden, rows))
            biases.append(states.repeat_bias)
        back = order.argsort()
        bias = None if biases[0] is None else torch.cat(biases)[back]
        last = interaction[self.ITEM_SEQ_LEN] - 1
        rows = torch.arange(len(last), device=last.device)
        return torch.cat(vectors)[back], self._repeats(bias, interaction, rows, last)

    def users_at_once(self, n_users: int) -> int:
        """How many of some users evaluation adapts to at once: ``adapt_chunk``, more on a GPU."""
        chunk = self.settings.adapt_chunk or n_users
        return chunk * of_device(CHUNKS_AT_ONCE, self.item_embedding.weight.device)

    def _repeats(
        self, bias: Tensor | None, interaction: Any, rows: Tensor, places: Tensor
    ) -> Repeats | None:
        """What users have had before they are asked, at places ``[M]`` of rows ``[M]``."""
        if bias is None:
            return None
        prefix = SEEN_PREFIX if SEEN_PREFIX + self.ITEM_SEQ in interaction else ""
        seen = interaction[prefix + self.ITEM_SEQ]
        # Both lists end with the same item, the last that the row's input holds.
        ahead = interaction[prefix + self.ITEM_SEQ_LEN] - interaction[self.ITEM_SEQ_LEN]
        newest = (ahead[rows] + places).unsqueeze(1)
        later = torch.arange(seen.shape[1], device=seen.device) > newest
        return Repeats(each_once(seen)[rows].masked_fill(later, 0), bias[rows])

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

    def _loss(
        self,
        hidden: Tensor,
        targets: Tensor,
        negatives: Tensor | None,
        repeats: Repeats | None,
    ) -> Tensor:
        table = self.item_embedding.weight
        if self.settings.loss_type == "CE":
            as_negatives = self.repeats_as_negatives
            return cross_entropy(hidden, targets, table, repeats, as_negatives)
        if negatives is None:
            raise ConfigError(
                f"loss_type {self.settings.loss_type} needs sampled negatives, but the batch has "
                "none: leave train_neg_sample_args out, or set loss_type: CE"
            )
        positive = _own_scores(hidden, targets, table, repeats)
        negative = _own_scores(hidden, negatives, table, repeats)
        if self.settings.loss_type == "BPR":
            return bayesian_personalized_ranking(positive, negative)
        return binary_cross_entropy(positive, negative)


def _own_scores(
    hidden: Tensor, items: Tensor, item_table: Tensor, repeats: Repeats | None
) -> Tensor:
    """Score of each state's own item, ``[M]``."""
    scores = pairwise_scores(hidden, items, item_table)
    return scores if repeats is None else scores + repeats.bias * each_among(items, repeats.seen)


def own_settings(schema: type[Any], config: Any) -> Any:
    """A model's settings from RecBole's config."""
    return schema(**{name: config[name] for name in schema.model_fields if name in config})
