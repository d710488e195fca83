"""SASRec's blocks (Kang and McAuley, ICDM 2018) in the form that RecBole gives them.

With RecBole's weights copied in, the scores are RecBole's SASRec scores. Inputs are padded on
the right, so the causal mask alone keeps padding out of every position that holds an item.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from recbole_fofa.model.backbone.base import ParameterSpec, dense_layer, linear
from recbole_fofa.model.backbone.feed_forward import FeedForwardBackbone
from recbole_fofa.model.weights import BlockParameters, vector


class SASRecBackbone(FeedForwardBackbone):
    """Causal self-attention and a feed-forward layer: ``P_l = 4D^2 + 2DI + 9D + I``.

    Args:
        n_heads: Number of attention heads.
        attn_dropout_prob: Dropout of attention weights.
        sizes: See :class:`FeedForwardBackbone`.
    """

    setting_names = (*FeedForwardBackbone.setting_names, "n_heads", "attn_dropout_prob")

    def __init__(self, *, n_heads: int, attn_dropout_prob: float, **sizes: Any) -> None:
        width: int = sizes["hidden_size"]
        projections: dict[str, ParameterSpec] = {}
        for name in ("query", "key", "value", "dense"):
            projections |= dense_layer(name, width, width)
        super().__init__(projections, **sizes)
        self.n_heads = n_heads
        self.attn_dropout_prob = attn_dropout_prob

    def mix(self, x: Tensor, p: BlockParameters) -> Tensor:
        """Causal self-attention, ``[B, T, D]`` to ``[B, T, D]``."""
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
        return linear(context, p["dense_weight"], vector(p, "dense_bias"))

    def mixing_macs(self, length: int) -> int:
        """Four projections, scores and their weighted sum."""
        width = self.hidden_size
        return 4 * length * width * width + 2 * length * length * width

    def mixing_size(self, length: int) -> int:
        """Input, queries, keys and values; scores before and after the softmax."""
        return 4 * length * self.hidden_size + 2 * self.n_heads * length * length
