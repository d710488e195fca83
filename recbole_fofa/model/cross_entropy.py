"""Softmax loss over all items without the matrix of all scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_fofa.model.repeats import Repeats

SCORES_AT_ONCE = {"cpu": 1 << 21, "other": 1 << 27}
"""Scores that are held at a time: what a core's caches hold, and half a GiB elsewhere."""


def cross_entropy(
    hidden: Tensor, targets: Tensor, item_table: Tensor, repeats: Repeats | None = None
) -> Tensor:
    """Mean softmax loss over all items.

    Scores and their gradients come in chunks of targets, both in the forward pass, so that of
    ``M x N`` scores only :data:`SCORES_AT_ONCE` exist at a time. There are no second derivatives.

    Args:
        hidden: One hidden state for each target, ``[M, D]``.
        targets: Item ids, ``[M]``.
        item_table: Embeddings of all items, padding at row 0, ``[N, D]``.
        repeats: Of each hidden state; what is added to scores of items that the user has had.
    """
    states = hidden.to(item_table.dtype)
    own = (None, None) if repeats is None else (repeats.seen, repeats.bias.to(states.dtype))
    loss: Tensor = _ChunkedCrossEntropy.apply(states, targets, item_table, *own)  # type: ignore[no-untyped-call]
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        targets: Tensor,
        item_table: Tensor,
        seen: Tensor | None,
        bias: Tensor | None,
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        gradients = [torch.empty_like(hidden), torch.zeros_like(item_table)]
        gradients += [] if bias is None else [torch.empty_like(bias)]
        at_once = SCORES_AT_ONCE["cpu" if hidden.device.type == "cpu" else "other"]
        size = max(1, at_once // len(item_table))
        buffer = hidden.new_empty(min(size, len(hidden)), len(item_table))
        total = hidden.new_zeros(())
        for start in range(0, len(hidden), size):
            rows = slice(start, start + size)
            states, own = hidden[rows], targets[rows].unsqueeze(1)
            scores = torch.mm(states, item_table.T, out=buffer[: len(states)])
            if seen is not None and bias is not None:
                had = seen[rows]
                scores.scatter_add_(1, had, bias[rows, None] * (had > 0))
            highest = scores.amax(1, keepdim=True)
            of_targets = scores.gather(1, own) - highest
            shares = scores.sub_(highest).exp_()  # in place: scores are not needed again
            sums = shares.sum(1, keepdim=True)
            total += (sums.log() - of_targets).sum()
            if wanted:
                shares.div_(sums).scatter_add_(1, own, torch.full_like(sums, -1.0))
                torch.mm(shares, item_table, out=gradients[0][rows])
                gradients[1].addmm_(shares.T, states)
                if seen is not None:
                    torch.sum(shares.gather(1, had) * (had > 0), 1, out=gradients[2][rows])
        ctx.save_for_backward(*(gradient / len(hidden) for gradient in gradients))
        return total / len(hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        of_hidden, of_table, *of_bias = (upstream * saved for saved in ctx.saved_tensors)
        return of_hidden, None, of_table, None, of_bias[0] if of_bias else None
