"""What a loss over a batch must know when some rows of the batch are in other processes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Noise = Callable[[Tensor], Tensor]
"""Of a tensor's shape ``[B, ...]``, where a row's noise is its own."""


class Batch:
    """A batch that is here as a whole, so that there is nothing to add and nothing to leave out.

    Training in several processes hands in another one. Every process then has the loss of the
    whole batch, and of its gradient the part that comes through the process's own rows.
    """

    def sum(self, value: Tensor) -> Tensor:
        """Sum over the whole batch, from the sum over the rows that are here."""
        return value

    def mean_over_rows(self, value: Tensor) -> Tensor:
        """Mean over the rows of the whole batch, from that over the rows that are here."""
        return value

    def mean_over_targets(self, value: Tensor) -> Tensor:
        """Mean over the targets of the whole batch, from that over the targets that are here."""
        return value

    def exponential(self, like: Tensor) -> Tensor:
        """Exponential noise of a tensor's shape ``[B, ...]``; a row's noise is its own."""
        return torch.empty_like(like).exponential_()

    def integers(self, high: int, n_rows: int, device: torch.device) -> Tensor:
        """For each row that is here a random number below ``high``, ``[n_rows]``."""
        return torch.randint(high, (n_rows,), device=device)


WHOLE = Batch()
"""The batch of one process."""


def noise_of_rows(draw: Noise, n_rows: int) -> Callable[[Tensor], Noise]:
    """The noise of a batch for some rows at a time, so that each has what it has in the whole.

    Args:
        draw: The noise of the whole batch; called once, at the first rows.
        n_rows: Of the whole batch.

    Returns:
        From indices of rows to their noise.
    """
    drawn: list[Tensor] = []

    def of(rows: Tensor) -> Noise:
        def noise(like: Tensor) -> Tensor:
            if not drawn:
                drawn.append(draw(like.new_empty(n_rows, *like.shape[1:])))
            return drawn[0][rows]

        return noise

    return of
