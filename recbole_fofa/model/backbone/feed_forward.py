"""What SASRec and FMLP-Rec share: positions at the input, a feed-forward layer in each block."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_fofa.model.backbone.base import (
    Backbone,
    BlockSpec,
    ParameterSpec,
    dense_layer,
    layer_norm,
    linear,
    norm,
)
from recbole_fofa.model.weights import BlockParameters, vector

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "swish": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class FeedForwardBackbone(Backbone):
    """Blocks of two halves, both residual and normalised after; the second is feed-forward.

    Args:
        first_half: Tensors of the half that mixes positions; its norm is added here.
        n_layers: Number of blocks ``L``.
        hidden_size: ``D``.
        inner_size: Width inside the feed-forward layer.
        max_length: Largest ``T``; size of the position table.
        hidden_dropout_prob: Dropout of hidden states.
        hidden_act: Activation of the feed-forward layer, a key of ``ACTIVATIONS``.
        layer_norm_eps: Added to the variance in LayerNorm.
        initializer_range: Standard deviation of the position table.
    """

    setting_names: ClassVar[tuple[str, ...]] = (
        "n_layers",
        "hidden_size",
        "inner_size",
        "hidden_dropout_prob",
        "hidden_act",
        "layer_norm_eps",
        "initializer_range",
    )

    def __init__(
        self,
        first_half: Mapping[str, ParameterSpec],
        *,
        n_layers: int,
        hidden_size: int,
        inner_size: int,
        max_length: int,
        hidden_dropout_prob: float,
        hidden_act: str,
        layer_norm_eps: float,
        initializer_range: float,
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.hidden_size = hidden_size
        self.inner_size = inner_size
        self.layer_norm_eps = layer_norm_eps
        self.activation = ACTIVATIONS[hidden_act]
        self.position_embedding = nn.Embedding(max_length, hidden_size)
        nn.init.normal_(self.position_embedding.weight, std=initializer_range)
        self.input_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = nn.Dropout(hidden_dropout_prob)
        parameters = {
            **first_half,
            **dense_layer("dense_1", inner_size, hidden_size),
            **dense_layer("dense_2", hidden_size, inner_size),
            **norm("mixing_norm", hidden_size),
            **norm("feed_forward_norm", hidden_size),
        }
        self.blocks = tuple(BlockSpec(f"block_{i}", parameters) for i in range(n_layers))

    def embed(self, item_emb: Tensor) -> Tensor:
        """Add the position, normalise, drop out: ``[B, T, D]`` to ``[B, T, D]``."""
        x = item_emb + self.position_embedding.weight[: item_emb.shape[1]]
        dropped: Tensor = self.dropout(self.input_norm(x))
        return dropped

    def apply_block(self, index: int, x: Tensor, parameters: BlockParameters) -> Tensor:
        """One block, ``[B, T, D]`` to ``[B, T, D]``."""
        mixed = self.dropout(self.mix(x, parameters))
        x = self._norm(mixed + x, "mixing_norm", parameters)
        return self._norm(self._feed_forward(x, parameters) + x, "feed_forward_norm", parameters)

    def block_macs(self, index: int, length: int) -> int:
        """The half that mixes positions, and the two dense layers."""
        return self.mixing_macs(length) + 2 * length * self.hidden_size * self.inner_size

    def activation_size(self, index: int, length: int) -> int:
        """The larger half; inside the feed-forward layer, before and after its activation."""
        feed_forward = length * (self.hidden_size + 2 * self.inner_size)
        return max(self.mixing_size(length), feed_forward)

    @abstractmethod
    def mix(self, x: Tensor, parameters: BlockParameters) -> Tensor:
        """The first half: each position sees those up to its own, ``[B, T, D]``."""

    @abstractmethod
    def mixing_macs(self, length: int) -> int:
        """Multiply-accumulates of :meth:`mix` for one user at input length ``length``."""

    @abstractmethod
    def mixing_size(self, length: int) -> int:
        """Numbers that are alive at once in :meth:`mix`, its input included, for one user."""

    def _feed_forward(self, x: Tensor, p: BlockParameters) -> Tensor:
        y = self.activation(linear(x, p["dense_1_weight"], vector(p, "dense_1_bias")))
        dropped: Tensor = self.dropout(linear(y, p["dense_2_weight"], vector(p, "dense_2_bias")))
        return dropped

    def _norm(self, x: Tensor, name: str, p: BlockParameters) -> Tensor:
        weight, bias = vector(p, f"{name}_weight"), vector(p, f"{name}_bias")
        return layer_norm(x, weight, bias, self.layer_norm_eps)
