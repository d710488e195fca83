"""FMLP-Rec's blocks (Zhou et al., WWW 2022), made causal.

FMLP-Rec multiplies a sequence's spectrum with learned weights: a circular convolution over the
whole sequence, in which every position sees the future. Ours is the causal kin: each feature has
a kernel over the lags ``0 .. T-1``, applied through a Fourier transform that is padded to twice
the length, so that nothing wraps around. That allows a loss at every position.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_fofa.model.backbone.base import ParameterSpec
from recbole_fofa.model.backbone.feed_forward import FeedForwardBackbone
from recbole_fofa.model.weights import BlockParameters, LowRankWeight


class FMLPRecBackbone(FeedForwardBackbone):
    """A causal filter and a feed-forward layer: ``P_l = DT + 2DI + 5D + I``.

    Args:
        sizes: See :class:`FeedForwardBackbone`.
    """

    def __init__(self, **sizes: Any) -> None:
        shape = (sizes["hidden_size"], sizes["max_length"])
        super().__init__({"filter_weight": ParameterSpec(shape, "normal")}, **sizes)

    def mix(self, x: Tensor, p: BlockParameters) -> Tensor:
        """``y_t = sum_j kernel_j * x_(t-j)`` for each feature, ``[B, T, D]`` to ``[B, T, D]``."""
        weight = p["filter_weight"]
        kernel = weight.dense() if isinstance(weight, LowRankWeight) else weight
        length = x.shape[1]
        lags = kernel[..., :length].transpose(-1, -2)  # [T, D] or [B, T, D]
        spectrum = torch.fft.rfft(x, 2 * length, dim=1) * torch.fft.rfft(lags, 2 * length, dim=-2)
        mixed: Tensor = torch.fft.irfft(spectrum, 2 * length, dim=1)[:, :length]
        return mixed

    def mixing_macs(self, length: int) -> int:
        """The direct sum over all lags, as a device without a Fourier transform computes it."""
        return self.hidden_size * length * (length + 1) // 2

    def mixing_size(self, length: int) -> int:
        """Input, two spectra of ``T + 1`` complex numbers, their product, which is one of them."""
        return self.hidden_size * (length + 4 * (length + 1))
