"""Sequences of any lengths in one batch, without computing most of its padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from recbole_fofa.model.piece_size import of_device

WORTH_A_GROUP = {"cpu": 1 << 10, "other": 1 << 16}
"""Positions below which a group of its own costs more than the padding that it saves.

A GPU computes padding in less time than it takes to start a group's operations."""


def by_length(lengths: Tensor, run: Callable[[Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Run rows of similar length together, and return the results in the order of the rows.

    Args:
        lengths: Number of items of each row, ``[B]``.
        run: From indices of rows ``[b]`` to results for each, ``[b, ...]``, whose other axes have
            the same sizes in all groups.
    """
    groups = list(_groups(lengths))
    results = [run(rows) for rows in groups]
    if len(groups) == 1:
        return results[0]
    back = torch.cat(groups).argsort()
    return tuple(torch.cat(parts)[back] for parts in zip(*results, strict=True))


def _groups(lengths: Tensor) -> Iterator[Tensor]:
    """Rows with lengths within a factor of two, where such a group is large enough."""
    worth = of_device(WORTH_A_GROUP, lengths.device)
    order = lengths.argsort(descending=True, stable=True)
    ordered = lengths[order].tolist()
    begin = 0
    for place, length in enumerate(ordered):
        before, after = ordered[begin] * (place - begin), length * (len(ordered) - place)
        if 2 * length <= ordered[begin] and min(before, after) >= worth:
            yield order[begin:place]
            begin = place
    yield order[begin:] if begin else torch.arange(len(ordered), device=lengths.device)
