"""Scores of all items for histories, through any sequential model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_fofa.cloud.assemble import device_limits
from recbole_fofa.data.dataset import ADAPT_PREFIX
from recbole_fofa.device.bundle_info import BundleInfo
from recbole_fofa.model.repeats import Repeats
from recbole_fofa.recommender.forward_ofa import ForwardOFA
from recbole_fofa.serving.histories import History, newest


@torch.no_grad()
def score(
    model: Any, histories: Sequence[History], limits: BundleInfo | None = None
) -> tuple[Tensor, list[str | None]]:
    """Scores ``[B, N]`` (padding at column 0), and each user's structure where there is one.

    Args:
        model: A sequential model of this package or of RecBole, in evaluation mode.
        histories: Each with at least one known item.
        limits: Of a device class; only for :class:`ForwardOFA`.
    """
    if isinstance(model, ForwardOFA):
        return _through_structures(model, histories, limits)
    rows = _rows(model, histories).to(model.device)
    return model.full_sort_predict(rows).view(len(histories), -1), [None] * len(histories)


def _through_structures(
    model: ForwardOFA, histories: Sequence[History], limits: BundleInfo | None
) -> tuple[Tensor, list[str | None]]:
    behaviour, n_read = newest(histories, model.settings.adapt_seq_length)
    how = () if limits is None else device_limits(limits, len(histories), model.device)
    decision = model.decide(behaviour.to(model.device), n_read.to(model.device), *how)
    item_seq, lengths = newest(histories, model.max_seq_length)
    item_seq = item_seq[:, : int(lengths.max())]
    adaptation = model.network.generate(decision)
    hidden = model.encode(item_seq.to(model.device), adaptation)
    vectors = model.gather_indexes(hidden, lengths.to(model.device) - 1)
    scores = vectors @ model.item_embedding.weight.T
    if adaptation.repeat_bias is not None:
        seen, _ = newest(histories, model.settings.repeat_seq_length)
        scores = Repeats.of(seen.to(model.device), adaptation.repeat_bias).added_to(scores)
    kept = decision.structure.int().tolist()
    return scores, ["".join(map(str, row)) for row in kept]


def _rows(model: Any, histories: Sequence[History]) -> Interaction:
    """What RecBole's evaluation would hand over, for users that it does not know."""
    item_seq, lengths = newest(histories, model.max_seq_length)
    fields = {model.ITEM_SEQ: item_seq, model.ITEM_SEQ_LEN: lengths}
    settings = getattr(model, "settings", None)
    if settings is not None:
        behaviour, n_read = newest(histories, settings.adapt_seq_length)
        fields[ADAPT_PREFIX + model.ITEM_SEQ] = behaviour
        fields[ADAPT_PREFIX + model.ITEM_SEQ_LEN] = n_read
    return Interaction(fields)
