"""The backbones' formulas in numpy; the same as in ``recbole_fofa.model.backbone``.

Tests hold them equal to torch for each backbone and each structure. States are ``[B, T, D]``,
padded on the right; a block's parameters are one user's.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

Array = np.ndarray
Parameters = Mapping[str, Array]


def sigmoid(x: Array) -> Array:
    """Logistic function, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def gelu(x: Array) -> Array:
    """``x Phi(x)``; erf by Abramowitz and Stegun 7.1.26, within 1.5e-7."""
    z = np.abs(x) * math.sqrt(0.5)
    t = 1 / (1 + 0.3275911 * z)
    series = 1.061405429
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = series * t + coefficient
    erf = np.copysign(1 - series * t * np.exp(-z * z), x)
    result: Array = 0.5 * x * (1 + erf)
    return result


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "relu": lambda x: np.maximum(x, 0),
    "swish": lambda x: x * sigmoid(x),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
}


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """Over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    variance = np.square(centred).mean(-1, keepdims=True)
    normalized: Array = centred / np.sqrt(variance + eps) * weight + bias
    return normalized


def dense(x: Array, p: Parameters, name: str) -> Array:
    """``x W^T + b``."""
    result: Array = x @ p[f"{name}_weight"].T + p[f"{name}_bias"]
    return result


class NumpyBackbone(ABC):
    """Input stage, blocks, output stage.

    Args:
        sizes: The backbone's settings by name.
        own: Tensors of the input and the output stage.

    Attributes:
        reads: The settings that are needed, and their types.
    """

    reads: ClassVar[Mapping[str, type]] = {}

    def __init__(self, sizes: Mapping[str, Any], own: Parameters) -> None:
        self.sizes = sizes
        self.own = own

    @staticmethod
    def own_shapes(width: int, max_length: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors of the input and the output stage."""
        return {}

    def embed(self, item_emb: Array) -> Array:
        """Input stage, ``[B, T, D]`` to ``[B, T, D]``."""
        return item_emb

    @abstractmethod
    def apply_block(self, index: int, x: Array, p: Parameters) -> Array:
        """Block ``index``, ``[B, T, D]`` to ``[B, T, D]``."""

    def finish(self, x: Array) -> Array:
        """Output stage, ``[B, T, D]`` to ``[B, T, D]``."""
        return x


class _FeedForward(NumpyBackbone):
    reads: ClassVar[Mapping[str, type]] = {"layer_norm_eps": float, "hidden_act": str}

    @staticmethod
    def own_shapes(width: int, max_length: int) -> dict[str, tuple[int, ...]]:
        norm = {"input_norm.weight": (width,), "input_norm.bias": (width,)}
        return {"position_embedding.weight": (max_length, width), **norm}

    def embed(self, item_emb: Array) -> Array:
        own, eps = self.own, self.sizes["layer_norm_eps"]
        x = item_emb + own["position_embedding.weight"][: item_emb.shape[1]]
        return layer_norm(x, own["input_norm.weight"], own["input_norm.bias"], eps)

    def apply_block(self, index: int, x: Array, p: Parameters) -> Array:
        eps = self.sizes["layer_norm_eps"]
        x = layer_norm(self.mix(x, p) + x, p["mixing_norm_weight"], p["mixing_norm_bias"], eps)
        y = dense(ACTIVATIONS[self.sizes["hidden_act"]](dense(x, p, "dense_1")), p, "dense_2")
        scale, shift = p["feed_forward_norm_weight"], p["feed_forward_norm_bias"]
        return layer_norm(y + x, scale, shift, eps)

    @abstractmethod
    def mix(self, x: Array, p: Parameters) -> Array:
        """The half that mixes positions."""


class _SASRec(_FeedForward):
    reads: ClassVar[Mapping[str, type]] = {**_FeedForward.reads, "n_heads": int}

    def mix(self, x: Array, p: Parameters) -> Array:
        B, T, D = x.shape
        n_heads = self.sizes["n_heads"]

        def heads(name: str) -> Array:
            return dense(x, p, name).reshape(B, T, n_heads, D // n_heads).transpose(0, 2, 1, 3)

        scores = heads("query") @ heads("key").swapaxes(-1, -2) * (D / n_heads) ** -0.5
        scores = np.where(np.tri(T, dtype=bool), scores, -np.inf).astype(x.dtype)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        context = weights / weights.sum(-1, keepdims=True) @ heads("value")
        return dense(context.transpose(0, 2, 1, 3).reshape(B, T, D), p, "dense")


class _FMLPRec(_FeedForward):
    def mix(self, x: Array, p: Parameters) -> Array:
        length = x.shape[1]
        lags = p["filter_weight"][:, :length].T
        spectrum = np.fft.rfft(x, 2 * length, axis=1) * np.fft.rfft(lags, 2 * length, axis=0)
        mixed: Array = np.fft.irfft(spectrum, 2 * length, axis=1)[:, :length].astype(x.dtype)
        return mixed


class _NextItNet(NumpyBackbone):
    reads: ClassVar[Mapping[str, type]] = {"kernel_size": int, "dilations": list}
    layer_norm_eps = 1e-8

    @staticmethod
    def own_shapes(width: int, max_length: int) -> dict[str, tuple[int, ...]]:
        return {"final_layer.weight": (width, width), "final_layer.bias": (width,)}

    def apply_block(self, index: int, x: Array, p: Parameters) -> Array:
        dilations = self.sizes["dilations"]
        dilation = dilations[index % len(dilations)]
        y = self._convolution(x, p, "1", dilation)
        result: Array = x + self._convolution(y, p, "2", 2 * dilation)
        return result

    def finish(self, x: Array) -> Array:
        result: Array = x @ self.own["final_layer.weight"].T + self.own["final_layer.bias"]
        return result

    def _convolution(self, x: Array, p: Parameters, which: str, dilation: int) -> Array:
        kernel_size, length = self.sizes["kernel_size"], x.shape[1]
        padded = np.pad(x, ((0, 0), ((kernel_size - 1) * dilation, 0), (0, 0)))
        taps = [padded[:, k * dilation : k * dilation + length] for k in range(kernel_size)]
        y = dense(np.concatenate(taps, -1), p, f"conv_{which}")
        scale, shift = p[f"norm_{which}_weight"], p[f"norm_{which}_bias"]
        activated: Array = np.maximum(layer_norm(y, scale, shift, self.layer_norm_eps), 0)
        return activated


class _GRU4Rec(NumpyBackbone):
    reads: ClassVar[Mapping[str, type]] = {"layer_norm_eps": float}

    def apply_block(self, index: int, x: Array, p: Parameters) -> Array:
        y = x + self._recur(x, p)
        return layer_norm(y, p["norm_weight"], p["norm_bias"], self.sizes["layer_norm_eps"])

    def _recur(self, x: Array, p: Parameters) -> Array:
        from_input = dense(x, p, "input")
        state, states = np.zeros_like(x[:, 0]), np.empty_like(x)
        for step in range(x.shape[1]):
            r_x, z_x, n_x = np.split(from_input[:, step], 3, -1)
            r_h, z_h, n_h = np.split(dense(state, p, "state"), 3, -1)
            update = sigmoid(z_x + z_h)
            new = np.tanh(n_x + sigmoid(r_x + r_h) * n_h)
            state = new + update * (state - new)
            states[:, step] = state
        return states


NUMPY_BACKBONES: dict[str, type[NumpyBackbone]] = {
    "sasrec": _SASRec,
    "nextitnet": _NextItNet,
    "gru4rec": _GRU4Rec,
    "fmlprec": _FMLPRec,
}
