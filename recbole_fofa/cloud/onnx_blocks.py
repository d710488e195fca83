"""The backbones' formulas as ONNX operators; the same as in ``recbole_fofa.model.backbone``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import NodeProto, helper


class Graph:
    """Nodes and constants in the order in which they are asked for.

    Attributes:
        nodes: So far.
        constants: By name.
    """

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append an operator of one output; returns the output's name."""
        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, value: np.ndarray) -> str:
        """A constant's name; float64 becomes float32."""
        name = f"constant_{len(self.constants)}"
        if value.dtype == np.float64:
            value = value.astype(np.float32)
        self.constants[name] = value
        return name

    def number(self, value: float) -> str:
        """A scalar constant's name."""
        return self.constant(np.array(value, np.float32))


def dense(graph: Graph, x: str, weight: str, bias: str) -> str:
    """``x W^T + b``."""
    product = graph.op("MatMul", x, graph.op("Transpose", weight, perm=[1, 0]))
    return graph.op("Add", product, bias)


def layer_norm(graph: Graph, x: str, weight: str, bias: str, eps: float) -> str:
    """Over the last axis."""
    return graph.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=eps)


def length_of(graph: Graph, x: str) -> str:
    """``T`` of ``[B, T, D]`` as a vector of one number."""
    return graph.op("Shape", x, start=1, end=2)


def _gelu(graph: Graph, x: str) -> str:
    erf = graph.op("Erf", graph.op("Mul", x, graph.number(0.5**0.5)))
    half = graph.op("Mul", x, graph.number(0.5))
    return graph.op("Mul", half, graph.op("Add", erf, graph.number(1.0)))


ACTIVATIONS: dict[str, Callable[[Graph, str], str]] = {
    "gelu": _gelu,
    "relu": lambda graph, x: graph.op("Relu", x),
    "swish": lambda graph, x: graph.op("Mul", x, graph.op("Sigmoid", x)),
    "tanh": lambda graph, x: graph.op("Tanh", x),
    "sigmoid": lambda graph, x: graph.op("Sigmoid", x),
}


class OnnxBackbone(ABC):
    """Input stage, blocks, output stage; states are names of ``[B, T, D]``.

    Args:
        graph: Where the operators go.
        sizes: The backbone's settings by name.
        own: Tensors of the input and the output stage; they become constants.

    Attributes:
        integers: Names of whole numbers that a block takes beside its tensors.
    """

    integers: tuple[str, ...] = ()

    def __init__(
        self, graph: Graph, sizes: Mapping[str, Any], own: Mapping[str, np.ndarray]
    ) -> None:
        self.graph = graph
        self.sizes = sizes
        self.own = {name: graph.constant(value) for name, value in own.items()}

    def embed(self, item_emb: str) -> str:
        """Input stage."""
        return item_emb

    @abstractmethod
    def apply_block(self, x: str, p: Mapping[str, str]) -> str:
        """One block, given the names of its tensors."""

    def finish(self, x: str) -> str:
        """Output stage."""
        return x

    def _dense(self, x: str, p: Mapping[str, str], name: str) -> str:
        return dense(self.graph, x, p[f"{name}_weight"], p[f"{name}_bias"])

    def _norm(self, x: str, p: Mapping[str, str], name: str, eps: float) -> str:
        return layer_norm(self.graph, x, p[f"{name}_weight"], p[f"{name}_bias"], eps)


class _FeedForward(OnnxBackbone):
    def embed(self, item_emb: str) -> str:
        op, constant = self.graph.op, self.graph.constant
        begin = constant(np.array([0]))
        places = op(
            "Slice", self.own["position_embedding.weight"], begin, length_of(self.graph, item_emb)
        )
        own = {name.replace(".", "_"): value for name, value in self.own.items()}
        return self._norm(
            op("Add", item_emb, places), own, "input_norm", self.sizes["layer_norm_eps"]
        )

    def apply_block(self, x: str, p: Mapping[str, str]) -> str:
        op, eps = self.graph.op, self.sizes["layer_norm_eps"]
        x = self._norm(op("Add", self.mix(x, p), x), p, "mixing_norm", eps)
        inner = ACTIVATIONS[self.sizes["hidden_act"]](self.graph, self._dense(x, p, "dense_1"))
        return self._norm(
            op("Add", self._dense(inner, p, "dense_2"), x), p, "feed_forward_norm", eps
        )

    @abstractmethod
    def mix(self, x: str, p: Mapping[str, str]) -> str:
        """The half that mixes positions."""


class _SASRec(_FeedForward):
    def mix(self, x: str, p: Mapping[str, str]) -> str:
        op, constant = self.graph.op, self.graph.constant
        n_heads, width = self.sizes["n_heads"], self.sizes["hidden_size"]
        split = constant(np.array([0, 0, n_heads, width // n_heads]))

        def heads(name: str, order: list[int]) -> str:
            return op("Transpose", op("Reshape", self._dense(x, p, name), split), perm=order)

        scores = op("MatMul", heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]))
        scores = op("Mul", scores, self.graph.number((width // n_heads) ** -0.5))
        weights = op("Softmax", op("Add", scores, self._causal_mask(x)), axis=-1)
        context = op("MatMul", weights, heads("value", [0, 2, 1, 3]))
        together = op(
            "Reshape",
            op("Transpose", context, perm=[0, 2, 1, 3]),
            constant(np.array([0, 0, width])),
        )
        return self._dense(together, p, "dense")

    def _causal_mask(self, x: str) -> str:
        """0 at and before each position, minus infinity after it, ``[T, T]``."""
        op, constant = self.graph.op, self.graph.constant
        zero = constant(np.array(0))
        length = op("Squeeze", length_of(self.graph, x))
        places = op("Range", zero, length, constant(np.array(1)))
        rows = op("Unsqueeze", places, constant(np.array([1])))
        is_later = op("Greater", places, rows)
        return op("Where", is_later, self.graph.number(-np.inf), self.graph.number(0.0))


class _FMLPRec(_FeedForward):
    def mix(self, x: str, p: Mapping[str, str]) -> str:
        op, constant = self.graph.op, self.graph.constant
        weight = p["filter_weight"]  # [D, longest]
        longest = op("Shape", weight, start=1, end=2)
        reach = op("Sub", longest, constant(np.array([1])))
        nothing = constant(np.array([0, 0]))
        behind = constant(np.array([0, 0, 0]))
        pads = op("Concat", nothing, reach, behind, axis=0)  # before: B, D, T; after: B, D, T
        by_feature = op("Pad", op("Transpose", x, perm=[0, 2, 1]), pads)
        # A convolution meets the oldest item first, the filter the newest.
        begin, end = constant(np.array([-1])), constant(np.array([np.iinfo(np.int64).min]))
        one, minus_one = constant(np.array([1])), constant(np.array([-1]))
        kernel = op("Unsqueeze", op("Slice", weight, begin, end, one, minus_one), one)
        mixed = op("Conv", by_feature, kernel, group=self.sizes["hidden_size"])
        return op("Transpose", mixed, perm=[0, 2, 1])


class _NextItNet(OnnxBackbone):
    integers = ("dilation",)
    layer_norm_eps = 1e-8

    def apply_block(self, x: str, p: Mapping[str, str]) -> str:
        op = self.graph.op
        dilation = p["dilation"]
        twice = op("Add", dilation, dilation)
        y = self._convolution(x, p, "1", dilation)
        return op("Add", x, self._convolution(y, p, "2", twice))

    def finish(self, x: str) -> str:
        return dense(self.graph, x, self.own["final_layer.weight"], self.own["final_layer.bias"])

    def _convolution(self, x: str, p: Mapping[str, str], which: str, dilation: str) -> str:
        y = self._dense(self._past(x, dilation), p, f"conv_{which}")
        return self.graph.op("Relu", self._norm(y, p, f"norm_{which}", self.layer_norm_eps))

    def _past(self, x: str, dilation: str) -> str:
        """Each position's own state and those before it, side by side: ``[B, T, K D]``."""
        op, constant = self.graph.op, self.graph.constant
        zero, one = constant(np.array(0)), constant(np.array(1))
        places = op("Range", zero, op("Squeeze", length_of(self.graph, x)), one)
        taps = []
        for back in range(self.sizes["kernel_size"] - 1, -1, -1):
            source = op("Sub", places, op("Mul", dilation, constant(np.array(back))))
            tap = op("Gather", x, op("Max", source, zero), axis=1)
            is_inside = op("Unsqueeze", op("GreaterOrEqual", source, zero), constant(np.array([1])))
            taps.append(op("Where", is_inside, tap, self.graph.number(0.0)))
        return op("Concat", *taps, axis=-1)


class _GRU4Rec(OnnxBackbone):
    def apply_block(self, x: str, p: Mapping[str, str]) -> str:
        op, constant = self.graph.op, self.graph.constant
        first = constant(np.array([0]))
        weights = [
            op("Unsqueeze", self._update_first(p[f"{name}_weight"]), first)
            for name in ("input", "state")
        ]
        both = [self._update_first(p[f"{name}_bias"]) for name in ("input", "state")]
        bias = op("Unsqueeze", op("Concat", *both, axis=0), first)
        states = op(
            "GRU",
            op("Transpose", x, perm=[1, 0, 2]),
            *weights,
            bias,
            hidden_size=self.sizes["hidden_size"],
            linear_before_reset=1,
        )  # [T, 1, B, D]
        by_user = op("Transpose", op("Squeeze", states, constant(np.array([1]))), perm=[1, 0, 2])
        return self._norm(op("Add", x, by_user), p, "norm", self.sizes["layer_norm_eps"])

    def _update_first(self, gates: str) -> str:
        """ONNX has the gates in the order update, reset, new."""
        op, constant = self.graph.op, self.graph.constant
        width, axis = self.sizes["hidden_size"], constant(np.array([0]))

        def part(gate: int) -> str:
            begin, end = (constant(np.array([(gate + step) * width])) for step in (0, 1))
            return op("Slice", gates, begin, end, axis)

        return op("Concat", part(1), part(0), part(2), axis=0)


ONNX_BACKBONES: dict[str, type[OnnxBackbone]] = {
    "sasrec": _SASRec,
    "nextitnet": _NextItNet,
    "gru4rec": _GRU4Rec,
    "fmlprec": _FMLPRec,
}
