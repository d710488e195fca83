"""NextItNet's blocks (Yuan et al., WSDM 2019) in the form that RecBole gives them.

With RecBole's weights copied in, the states are those of RecBole's NextItNet.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_fofa.model.backbone.base import (
    Backbone,
    BlockSpec,
    dense_layer,
    layer_norm,
    linear,
    norm,
)
from recbole_fofa.model.weights import BlockParameters, LowRankWeight, vector


class NextItNetBackbone(Backbone):
    """Two dilated causal convolutions with a residual around: ``P_l = 2KD^2 + 6D``.

    Block ``l`` has the dilation ``d = dilations[l % len(dilations)]``, and ``2d`` in its second
    convolution. A convolution's weight is one matrix ``[D, K D]``, the oldest item's part first.
    Behind the blocks stands a dense layer, as in RecBole; it is shared by all users.

    Args:
        n_layers: Number of blocks ``L``.
        hidden_size: ``D``.
        max_length: Largest ``T``; the network itself has no limit.
        kernel_size: ``K``, items that a convolution reads.
        dilations: Distance of these items, block by block, repeated.
        hidden_dropout_prob: Dropout of the input.
    """

    setting_names = (
        "n_layers",
        "hidden_size",
        "kernel_size",
        "dilations",
        "hidden_dropout_prob",
    )
    layer_norm_eps = 1e-8

    def __init__(
        self,
        *,
        n_layers: int,
        hidden_size: int,
        max_length: int,
        kernel_size: int,
        dilations: Sequence[int],
        hidden_dropout_prob: float,
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.hidden_size = hidden_size
        self.kernel_size = kernel_size
        self.dilations = [dilations[index % len(dilations)] for index in range(n_layers)]
        self.dropout = nn.Dropout(hidden_dropout_prob)
        parameters = {
            **dense_layer("conv_1", hidden_size, kernel_size * hidden_size),
            **norm("norm_1", hidden_size),
            **dense_layer("conv_2", hidden_size, kernel_size * hidden_size),
            **norm("norm_2", hidden_size),
        }
        self.blocks = tuple(BlockSpec(f"block_{i}", parameters) for i in range(n_layers))
        self.final_layer = nn.Linear(hidden_size, hidden_size)
        nn.init.xavier_normal_(self.final_layer.weight)
        nn.init.zeros_(self.final_layer.bias)

    def embed(self, item_emb: Tensor) -> Tensor:
        """Drop out: ``[B, T, D]`` to ``[B, T, D]``."""
        dropped: Tensor = self.dropout(item_emb)
        return dropped

    def apply_block(self, index: int, x: Tensor, parameters: BlockParameters) -> Tensor:
        """One residual block, ``[B, T, D]`` to ``[B, T, D]``."""
        dilation = self.dilations[index]
        y = self._convolution(x, parameters, "1", dilation)
        return x + self._convolution(y, parameters, "2", 2 * dilation)

    def block_macs(self, index: int, length: int) -> int:
        """Both convolutions."""
        return 2 * length * self.kernel_size * self.hidden_size**2

    def activation_size(self, index: int, length: int) -> int:
        """Block's input, convolution's input with the past before it, its items side by side."""
        reach = (self.kernel_size - 1) * 2 * self.dilations[index]
        return self.hidden_size * ((2 + self.kernel_size) * length + reach)

    def finish_macs(self, length: int) -> int:
        """That of the dense layer."""
        return length * self.hidden_size**2

    def finish(self, x: Tensor) -> Tensor:
        """The dense layer behind the blocks."""
        states: Tensor = self.final_layer(x)
        return states

    def _convolution(self, x: Tensor, p: BlockParameters, which: str, dilation: int) -> Tensor:
        weight: Tensor | LowRankWeight = p[f"conv_{which}_weight"]
        y = linear(self._past(x, dilation), weight, vector(p, f"conv_{which}_bias"))
        scale, shift = vector(p, f"norm_{which}_weight"), vector(p, f"norm_{which}_bias")
        return F.relu(layer_norm(y, scale, shift, self.layer_norm_eps))

    def _past(self, x: Tensor, dilation: int) -> Tensor:
        """Each position's own state and those before it, side by side: ``[B, T, K D]``."""
        reach = (self.kernel_size - 1) * dilation
        padded = F.pad(x, (0, 0, reach, 0))
        length = x.shape[1]
        return torch.cat(
            [padded[:, k * dilation : k * dilation + length] for k in range(self.kernel_size)], -1
        )
