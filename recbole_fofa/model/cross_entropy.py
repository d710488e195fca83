"""Softmax loss over all items without the matrix of all scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_fofa.model.piece_size import of_device
from recbole_fofa.model.repeats import Repeats, each_among

SCORES_AT_ONCE = {"cpu": 1 << 21, "other": 1 << 27}
"""Scores that are held at a time: what a core's caches hold, and half a GiB elsewhere."""


def cross_entropy(
    hidden: Tensor,
    targets: Tensor,
    item_table: Tensor,
    repeats: Repeats | None = None,
    as_negatives: bool = False,
) -> Tensor:
    """Mean softmax loss over all items.

    Scores and their gradients come in chunks of targets, both in the forward pass, so that of
    ``M x N`` scores only :data:`SCORES_AT_ONCE` exist at a time. There are no second derivatives.

    Args:
        hidden: One hidden state for each target, ``[M, D]``.
        targets: Item ids, ``[M]``.
        item_table: Embeddings of all items, padding at row 0, ``[N, D]``.
        repeats: Of each hidden state; what is added to scores of items that the user has had.
        as_negatives: Whether the bias alone learns from the scores that it changes. States and
            embeddings then get the gradient of the loss without it, in which items that the user
            has had are negatives like any other.

    Returns:
        The loss of the scores with the bias, whoever learns from them.
    """
    states = hidden.to(item_table.dtype)
    seen = None if repeats is None else repeats.seen
    bias = None if repeats is None else repeats.bias.to(states.dtype)
    found: tuple[Tensor, Tensor, Tensor] = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        states, targets, item_table, seen, None if as_negatives else bias
    )
    loss, of_had, of_others = found
    if seen is None or bias is None or not as_negatives:
        return loss
    total = of_had * bias.exp() + of_others  # of all shares, those of what was had changed
    return loss + (total.log() - bias * each_among(targets, seen)).mean()


def _sum_of_others(shares: Tensor, seen: Tensor, of_seen: Tensor) -> Tensor:
    """Of the shares ``[m, N]`` of all items but those in ``[m, S]``, whose own are given, ``[m]``.

    Not what the others leave of 1: where they have nearly all, rounding would leave nothing.
    """
    padding = shares[:, 0].clone()
    shares.scatter_(1, seen, 0.0)
    shares[:, 0] = padding
    of_others = shares.sum(1)
    shares.scatter_(1, seen, of_seen)
    return of_others


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The mean loss, and the shares of the softmax that items had and all others get, ``[M]`` each.

    The shares have no gradient. Without ``seen`` none are made, with ``bias`` not the others'.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        targets: Tensor,
        item_table: Tensor,
        seen: Tensor | None,
        bias: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        wanted = any(ctx.needs_input_grad)
        gradients = [torch.empty_like(hidden), torch.zeros_like(item_table)]
        of_had, of_others = hidden.new_zeros(2, len(hidden))
        at_once = of_device(SCORES_AT_ONCE, hidden.device)
        size = max(1, at_once // len(item_table))
        buffer = hidden.new_empty(min(size, len(hidden)), len(item_table))
        total = hidden.new_zeros(())
        for start in range(0, len(hidden), size):
            rows = slice(start, start + size)
            states, own = hidden[rows], targets[rows].unsqueeze(1)
            scores = torch.mm(states, item_table.T, out=buffer[: len(states)])
            if seen is not None and bias is not None:
                scores.scatter_add_(1, seen[rows], bias[rows, None] * (seen[rows] > 0))
            highest = scores.amax(1, keepdim=True)
            lead = scores.gather(1, own) - highest
            shares = scores.sub_(highest).exp_()  # in place: scores are not needed again
            sums = shares.sum(1, keepdim=True)
            total += (sums.log() - lead).sum()
            shares.div_(sums)
            if seen is not None:
                of_seen = shares.gather(1, seen[rows])
                of_had[rows] = (of_seen * (seen[rows] > 0)).sum(1)
                if bias is None:
                    of_others[rows] = _sum_of_others(shares, seen[rows], of_seen)
            if wanted:
                shares.scatter_add_(1, own, torch.full_like(sums, -1.0))
                torch.mm(shares, item_table, out=gradients[0][rows])
                gradients[1].addmm_(shares.T, states)
        if seen is not None and bias is not None:
            gradients.append(of_had - each_among(targets, seen).to(of_had))
        ctx.save_for_backward(*(gradient / len(hidden) for gradient in gradients))
        ctx.mark_non_differentiable(of_had, of_others)
        return total / len(hidden), of_had, of_others

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        of_hidden, of_table, *of_bias = (upstream * saved for saved in ctx.saved_tensors)
        return of_hidden, None, of_table, None, of_bias[0] if of_bias else None
