"""Recurrent blocks after GRU4Rec (Hidasi et al., ICLR 2016), residual so that one can be absent."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_fofa.model.backbone.base import (
    Backbone,
    BlockSpec,
    dense_layer,
    layer_norm,
    linear,
    norm,
)
from recbole_fofa.model.weights import BlockParameters, LowRankWeight, vector


class GRU4RecBackbone(Backbone):
    """A GRU over the input, residual and normalised after: ``P_l = 6D^2 + 8D``.

    The residual and its norm are ours: GRU4Rec stacks layers without them, and a layer that may
    be dropped must leave something that the next one can read. The gates are in torch's order
    (reset, update, new).

    Args:
        n_layers: Number of blocks ``L``.
        hidden_size: ``D``.
        max_length: Largest ``T``; the network itself has no limit.
        hidden_dropout_prob: Dropout of the input and of each block's states.
        layer_norm_eps: Added to the variance in LayerNorm.
    """

    setting_names = ("n_layers", "hidden_size", "hidden_dropout_prob", "layer_norm_eps")

    def __init__(
        self,
        *,
        n_layers: int,
        hidden_size: int,
        max_length: int,
        hidden_dropout_prob: float,
        layer_norm_eps: float,
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.hidden_size = hidden_size
        self.layer_norm_eps = layer_norm_eps
        self.dropout = nn.Dropout(hidden_dropout_prob)
        parameters = {
            **dense_layer("input", 3 * hidden_size, hidden_size),
            **dense_layer("state", 3 * hidden_size, hidden_size),
            **norm("norm", hidden_size),
        }
        self.blocks = tuple(BlockSpec(f"block_{i}", parameters) for i in range(n_layers))

    def embed(self, item_emb: Tensor) -> Tensor:
        """Drop out: ``[B, T, D]`` to ``[B, T, D]``."""
        dropped: Tensor = self.dropout(item_emb)
        return dropped

    def apply_block(self, index: int, x: Tensor, parameters: BlockParameters) -> Tensor:
        """One recurrent block, ``[B, T, D]`` to ``[B, T, D]``."""
        scale, shift = vector(parameters, "norm_weight"), vector(parameters, "norm_bias")
        states = self.dropout(recur(x, parameters))
        return layer_norm(x + states, scale, shift, self.layer_norm_eps)

    def block_macs(self, index: int, length: int) -> int:
        """Three gates, each of the input and of the state."""
        return 6 * length * self.hidden_size**2

    def activation_size(self, index: int, length: int) -> int:
        """Input, the input's share of three gates, states."""
        return 5 * length * self.hidden_size


def recur(x: Tensor, p: BlockParameters) -> Tensor:
    """States of a GRU that starts at zero, ``[B, T, D]`` to ``[B, T, D]``."""
    from_input = linear(x, p["input_weight"], vector(p, "input_bias"))  # [B, T, 3 D]
    weight: Tensor | LowRankWeight = p["state_weight"]
    bias = vector(p, "state_bias")
    state = x.new_zeros(x.shape[0], 1, x.shape[2])
    states = []
    for given in torch.split(from_input, 1, dim=1):
        r_x, z_x, n_x = given.chunk(3, -1)
        r_h, z_h, n_h = linear(state, weight, bias).chunk(3, -1)
        reset, update = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
        new = torch.tanh(n_x + reset * n_h)
        state = new + update * (state - new)
        states.append(state)
    return torch.cat(states, 1)
