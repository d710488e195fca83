"""What a backbone is: a list of blocks, each a function of its input and of its parameters.

A block owns no parameters. They are handed to it, either shared by all users (the shape that
``ParameterSpec`` states) or one set per user (the same with a leading ``B``). That is what lets
one and the same code run the static network, the generated one and a device's own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_fofa.model.weights import BlockParameters, LowRankWeight


@dataclass(frozen=True)
class ParameterSpec:
    """Shape and initial values of one tensor of a block."""

    shape: tuple[int, ...]
    init: Literal["normal", "zeros", "ones"]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_matrix(self) -> bool:
        """Whether this is a weight matrix, as against a bias or a scale."""
        return len(self.shape) == 2

    def initial(self, std: float) -> Tensor:
        """A fresh tensor; ``std`` is the deviation of ``normal`` ones (initializer_range)."""
        if self.init == "normal":
            return torch.randn(self.shape) * std
        return torch.zeros(self.shape) if self.init == "zeros" else torch.ones(self.shape)


@dataclass(frozen=True)
class BlockSpec:
    """Name and parameters of one block."""

    name: str
    parameters: Mapping[str, ParameterSpec]

    @property
    def size(self) -> int:
        """Number of parameters, ``P_l``."""
        return sum(spec.size for spec in self.parameters.values())


class Backbone(nn.Module, ABC):
    """Base of on-device networks: an input stage and ``L`` blocks (Figure 3d).

    Attributes:
        setting_names: Settings that the constructor takes by name, beside ``max_length``.
        blocks: The ``L`` blocks in the order in which they are applied.
        max_length: Largest input length ``T``.
    """

    setting_names: ClassVar[tuple[str, ...]]
    blocks: tuple[BlockSpec, ...]
    max_length: int

    @abstractmethod
    def embed(self, item_emb: Tensor) -> Tensor:
        """Input stage: item embeddings ``[B, T, D]`` to the first block's input ``[B, T, D]``."""

    @abstractmethod
    def apply_block(self, index: int, x: Tensor, parameters: BlockParameters) -> Tensor:
        """Block ``index`` on ``x`` ``[B, T, D]``; shared or per-user ``parameters``."""

    @abstractmethod
    def block_macs(self, index: int, length: int) -> int:
        """Multiply-accumulates of block ``index`` for one user at input length ``length``.

        Products of weights and of states only; biases, norms and activations are not counted.
        """

    @abstractmethod
    def activation_size(self, index: int, length: int) -> int:
        """Numbers that are alive at once in block ``index``, its input included, for one user."""

    def finish_macs(self, length: int) -> int:
        """Multiply-accumulates of :meth:`finish` for one user at input length ``length``."""
        return 0

    def finish(self, x: Tensor) -> Tensor:
        """Output stage: the last block's output ``[B, T, D]`` to hidden states ``[B, T, D]``."""
        return x


def dense_layer(name: str, rows: int, columns: int) -> dict[str, ParameterSpec]:
    """Weight ``[rows, columns]`` and bias of a dense layer."""
    return {
        f"{name}_weight": ParameterSpec((rows, columns), "normal"),
        f"{name}_bias": ParameterSpec((rows,), "zeros"),
    }


def norm(name: str, width: int) -> dict[str, ParameterSpec]:
    """Scale and shift of a LayerNorm over ``width`` features."""
    return {
        f"{name}_weight": ParameterSpec((width,), "ones"),
        f"{name}_bias": ParameterSpec((width,), "zeros"),
    }


def linear(x: Tensor, weight: Tensor | LowRankWeight, bias: Tensor) -> Tensor:
    """``y = x W^T + b`` with one weight for all, or one per user.

    Args:
        x: ``[B, T, D_in]``.
        weight: ``[D_out, D_in]``, ``[B, D_out, D_in]`` or its factors.
        bias: ``[D_out]`` or ``[B, D_out]``.

    Returns:
        ``[B, T, D_out]``.

    Example:
        >>> x = torch.ones(2, 3, 4)
        >>> shared = linear(x, torch.ones(5, 4), torch.zeros(5))
        >>> per_user = linear(x, torch.ones(2, 5, 4), torch.zeros(2, 5))
        >>> bool((shared == per_user).all())
        True
    """
    if isinstance(weight, LowRankWeight):
        return weight.apply(x) + _per_position(bias)
    if weight.dim() == 2 and bias.dim() == 1:
        return F.linear(x, weight, bias)
    if weight.dim() == 2:
        return F.linear(x, weight) + bias.unsqueeze(1)
    if bias.dim() == 1:
        bias = bias.expand(x.shape[0], -1)
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm over the last axis of ``x`` ``[B, T, D]``; ``[D]`` or ``[B, D]`` parameters."""
    if weight.dim() == 1 and bias.dim() == 1:
        return F.layer_norm(x, (x.shape[-1],), weight, bias, eps)
    normalized = F.layer_norm(x, (x.shape[-1],), eps=eps)
    return normalized * _per_position(weight) + _per_position(bias)


def _per_position(vector: Tensor) -> Tensor:
    return vector if vector.dim() == 1 else vector.unsqueeze(1)
