"""Block parameters: one set for all users, one per user, or one per user kept as factors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class LowRankWeight:
    """``W(u) = base + left C(u) right``, a weight matrix for each user of a batch (ours).

    Kept as factors, because applying them costs less than building ``B`` matrices: the base is
    one product for the whole batch, and what belongs to one user is ``R x R`` numbers.

    Attributes:
        base: Shared, ``[rows, columns]``.
        left: Shared, ``[rows, R]``.
        core: Per user, ``[B, R, R]``.
        right: Shared, ``[R, columns]``.
    """

    base: Tensor
    left: Tensor
    core: Tensor
    right: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """``x W(u)^T``: ``[B, T, columns]`` to ``[B, T, rows]``."""
        projected = F.linear(x, self.right) @ self.core.transpose(1, 2)  # [B, T, R]
        # One product with [base, left] side by side, in place of two and a sum.
        return F.linear(torch.cat([x, projected], -1), torch.cat([self.base, self.left], -1))

    def dense(self) -> Tensor:
        """The matrices themselves, ``[B, rows, columns]``."""
        return self.base + self.left @ self.core @ self.right


BlockParameters = Mapping[str, Tensor | LowRankWeight]
"""Parameters of one block by name: ``[*shape]``, ``[B, *shape]`` or :class:`LowRankWeight`."""


def vector(parameters: BlockParameters, name: str) -> Tensor:
    """A bias or a scale, ``[*shape]`` or ``[B, *shape]``; only matrices come as factors."""
    return cast(Tensor, parameters[name])


def dense_parameters(parameters: BlockParameters) -> dict[str, Tensor]:
    """The same parameters with every factored matrix multiplied out."""
    return {
        name: value.dense() if isinstance(value, LowRankWeight) else value
        for name, value in parameters.items()
    }


def parameters_of_users(
    parameters: BlockParameters, users: Tensor, n_axes: Mapping[str, int]
) -> dict[str, Tensor | LowRankWeight]:
    """The parameters of some users of the batch; what all users share stays as it is.

    Args:
        parameters: Of the whole batch.
        users: Boolean mask ``[B]``.
        n_axes: Number of axes of each tensor where all users share it.
    """

    def select(name: str, value: Tensor | LowRankWeight) -> Tensor | LowRankWeight:
        if isinstance(value, LowRankWeight):
            return replace(value, core=value.core[users])
        return value[users] if value.dim() > n_axes[name] else value

    return {name: select(name, value) for name, value in parameters.items()}
