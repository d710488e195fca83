"""SASRec's blocks (Kang and McAuley, ICDM 2018) in the form that RecBole gives them.

With RecBole's weights copied in, the scores are RecBole's SASRec scores. Inputs are padded on
the right, so the causal mask alone keeps padding out of every position that holds an item.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_fofa.model.backbone.base import (
    Backbone,
    BlockSpec,
    ParameterSpec,
    layer_norm,
    linear,
)
from recbole_fofa.model.weights import BlockParameters, vector

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "swish": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class SASRecBackbone(Backbone):
    """Causal self-attention and a feed-forward layer, both residual and normalised after.

    Args:
        n_layers: Number of blocks ``L``.
        n_heads: Number of attention heads.
        hidden_size: ``D``.
        inner_size: Width inside the feed-forward layer.
        max_length: Largest ``T``; size of the position table.
        hidden_dropout_prob: Dropout of hidden states.
        attn_dropout_prob: Dropout of attention weights.
        hidden_act: Activation of the feed-forward layer, a key of ``ACTIVATIONS``.
        layer_norm_eps: Added to the variance in LayerNorm.
        initializer_range: Standard deviation of the position table.
    """

    def __init__(
        self,
        *,
        n_layers: int,
        n_heads: int,
        hidden_size: int,
        inner_size: int,
        max_length: int,
        hidden_dropout_prob: float,
        attn_dropout_prob: float,
        hidden_act: str,
        layer_norm_eps: float,
        initializer_range: float,
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.n_heads = n_heads
        self.hidden_size = hidden_size
        self.inner_size = inner_size
        self.attn_dropout_prob = attn_dropout_prob
        self.layer_norm_eps = layer_norm_eps
        self.activation = ACTIVATIONS[hidden_act]
        self.position_embedding = nn.Embedding(max_length, hidden_size)
        nn.init.normal_(self.position_embedding.weight, std=initializer_range)
        self.input_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = nn.Dropout(hidden_dropout_prob)
        parameters = block_parameters(hidden_size, inner_size)
        self.blocks = tuple(BlockSpec(f"block_{i}", parameters) for i in range(n_layers))

    def embed(self, item_emb: Tensor) -> Tensor:
        """Add the position, normalise, drop out: ``[B, T, D]`` to ``[B, T, D]``."""
        x = item_emb + self.position_embedding.weight[: item_emb.shape[1]]
        dropped: Tensor = self.dropout(self.input_norm(x))
        return dropped

    def apply_block(self, index: int, x: Tensor, parameters: BlockParameters) -> Tensor:
        """One SASRec block, ``[B, T, D]`` to ``[B, T, D]``."""
        return self._feed_forward(self._attention(x, parameters), parameters)

    def block_macs(self, index: int, length: int) -> int:
        """Projections, attention and feed-forward; norms and activations are not counted."""
        width = self.hidden_size
        projections = 4 * length * width * width
        attention = 2 * length * length * width
        return projections + attention + 2 * length * width * self.inner_size

    def _attention(self, x: Tensor, p: BlockParameters) -> Tensor:
        B, T, D = x.shape

        def heads(name: str) -> Tensor:
            y = linear(x, p[f"{name}_weight"], vector(p, f"{name}_bias"))
            return y.view(B, T, self.n_heads, D // self.n_heads).transpose(1, 2)

        context = F.scaled_dot_product_attention(
            heads("query"),
            heads("key"),
            heads("value"),
            dropout_p=self.attn_dropout_prob if self.training else 0.0,
            is_causal=True,
        )  # [B, n_heads, T, D / n_heads]
        context = context.transpose(1, 2).reshape(B, T, D)
        y = self.dropout(linear(context, p["dense_weight"], vector(p, "dense_bias")))
        return self._norm(y + x, "attention_norm", p)

    def _feed_forward(self, x: Tensor, p: BlockParameters) -> Tensor:
        y = self.activation(linear(x, p["dense_1_weight"], vector(p, "dense_1_bias")))
        y = self.dropout(linear(y, p["dense_2_weight"], vector(p, "dense_2_bias")))
        return self._norm(y + x, "feed_forward_norm", p)

    def _norm(self, x: Tensor, name: str, p: BlockParameters) -> Tensor:
        weight, bias = vector(p, f"{name}_weight"), vector(p, f"{name}_bias")
        return layer_norm(x, weight, bias, self.layer_norm_eps)


def block_parameters(hidden_size: int, inner_size: int) -> dict[str, ParameterSpec]:
    """Names, shapes and initial values of a block's tensors, ``P_l = 4D^2 + 2DI + 9D + I``."""
    D, inner = hidden_size, inner_size
    layers = {
        "query": (D, D),
        "key": (D, D),
        "value": (D, D),
        "dense": (D, D),
        "dense_1": (inner, D),
        "dense_2": (D, inner),
    }
    specs: dict[str, ParameterSpec] = {}
    for name, (rows, columns) in layers.items():
        specs[f"{name}_weight"] = ParameterSpec((rows, columns), "normal")
        specs[f"{name}_bias"] = ParameterSpec((rows,), "zeros")
    for name in ("attention_norm", "feed_forward_norm"):
        specs[f"{name}_weight"] = ParameterSpec((D,), "ones")
        specs[f"{name}_bias"] = ParameterSpec((D,), "zeros")
    return specs
