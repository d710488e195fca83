"""One number on the scores of what a user has had already (ours).

Items that a user has had resemble the user's state most, so that a dot product ranks them first,
whether or not the user ever takes an item twice. No change of the state can tell an item from its
like; one number on the items of the history can.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Repeats:
    """For each of ``M`` states what its user has had before, and what that changes.

    Attributes:
        seen: Item ids, each once in its row, padded with 0, ``[M, S]``.
        bias: Added to the scores of a row's items, ``[M]``.
    """

    seen: Tensor
    bias: Tensor

    @classmethod
    def of(cls, items: Tensor, bias: Tensor) -> Repeats:
        """From what users have had, padded with 0, ``[M, S]``; items may come more than once."""
        return cls(each_once(items), bias)

    def added_to(self, scores: Tensor, begin: int = 0) -> Tensor:
        """Scores of items ``begin .. begin + n - 1``, ``[M, n]``, with the bias; a new tensor."""
        places = self.seen - begin
        inside = (places >= 0) & (places < scores.shape[1]) & (self.seen > 0)
        return scores.scatter_add(1, places * inside, self.bias.unsqueeze(1) * inside)

    def of_items(self, items: Tensor) -> Tensor:
        """The bias of each row's own items ``[M, C]``, 0 for what is new, ``[M, C]``."""
        return self.bias.unsqueeze(1) * (among(items, self.seen) & (items > 0))


def among(items: Tensor, seen: Tensor) -> Tensor:
    """Whether each of ``[B, C]`` is in its row of ``[B, S]``, ``[B, C]``."""
    ordered = seen.sort(1).values
    places = torch.searchsorted(ordered, items.contiguous()).clamp(max=seen.shape[1] - 1)
    return ordered.gather(1, places) == items


def each_among(items: Tensor, seen: Tensor) -> Tensor:
    """Whether each of ``[M]``, but for padding, is in its own row of ``[M, S]``, ``[M]``.

    As :func:`among` for one item a row, for which sorting the rows would not pay.
    """
    return (seen == items.unsqueeze(1)).any(1) & (items > 0)


def each_once(items: Tensor) -> Tensor:
    """Item ids ``[B, S]`` with 0 in the place of an item that its row has had before."""
    ordered, order = items.sort(dim=1, stable=True)
    again = torch.zeros_like(items, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return items.masked_fill(again.gather(1, order.argsort(1)), 0)
