"""One ONNX graph for each number of kept blocks; a user's weights are inputs of it, or constants.

There are no gates, no noise and no hypernetworks in it, so that nothing of the user it was made
for can be baked in unasked. Batch, number of candidates and input length are free.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from recbole_fofa.cloud.onnx_blocks import ONNX_BACKBONES, Graph, OnnxBackbone
from recbole_fofa.device.bundle import BaseBundle
from recbole_fofa.device.payload import (
    DevicePayload,
    block_integers,
    structure_text,
    user_network,
)

OPSET, IR_VERSION = 17, 9


def make_graph(bundle: BaseBundle, n_kept: int) -> bytes:
    """The network of ``n_kept`` blocks as an ONNX file.

    Its inputs: ``item_emb [B, T, D]``, padded on the right; ``lengths [B]``, int64, at least 1;
    ``candidate_emb [B, C, D]``; ``output_bias [D]`` where one is generated; for slot ``s`` of the
    kept blocks in their order ``block_<s>.<name>`` as in a dense payload, and
    ``block_<s>.dilation`` for a NextItNet. Its output: ``scores [B, C]``.

    Args:
        bundle: Of the device class; its input and output stage become constants.
        n_kept: Number of kept blocks, 0 to ``L``.
    """
    graph, backbone = _begin(bundle)
    x = backbone.embed("item_emb")
    inputs = _request_inputs(bundle)
    for slot in range(n_kept):
        own = {name: f"block_{slot}.{name}" for name in bundle.info.blocks[0]}
        for name, shape in bundle.info.shapes_of(0).items():
            inputs.append(helper.make_tensor_value_info(own[name], TensorProto.FLOAT, shape))
        for name in backbone.integers:
            own[name] = f"block_{slot}.{name}"
            inputs.append(helper.make_tensor_value_info(own[name], TensorProto.INT64, []))
        x = backbone.apply_block(x, own)
    if bundle.info.output_size:
        shape = [bundle.info.output_size]
        inputs.append(helper.make_tensor_value_info("output_bias", TensorProto.FLOAT, shape))
    _scores(graph, backbone.finish(x), "output_bias" if bundle.info.output_size else None)
    return _model(graph, inputs, {"base": bundle.info.base, "n_kept": n_kept})


def make_standalone_graph(bundle: BaseBundle, payload: DevicePayload) -> bytes:
    """One user's network with its weights as constants, for runtimes that pack them when loading.

    Inputs and output are those of :func:`make_graph`, without the blocks'.

    Args:
        bundle: Of the device class.
        payload: The user's.
    """
    graph, backbone = _begin(bundle)
    x = backbone.embed("item_emb")
    own = user_network(bundle, payload)
    for index, tensors in zip(own.kept, own.parameters, strict=True):
        values = tensors | block_integers(bundle.info, index)
        x = backbone.apply_block(x, {name: graph.constant(v) for name, v in values.items()})
    bias = None if own.output_bias is None else graph.constant(own.output_bias)
    _scores(graph, backbone.finish(x), bias)
    notes = {"base": bundle.info.base, "structure": structure_text(payload.structure)}
    notes["payload"] = own.mark
    if own.repeat_bias is not None:
        notes["repeat_bias"] = own.repeat_bias.item()  # the runtime's to add
    return _model(graph, _request_inputs(bundle), notes)


def _begin(bundle: BaseBundle) -> tuple[Graph, OnnxBackbone]:
    graph = Graph()
    kind = ONNX_BACKBONES[bundle.info.backbone]
    return graph, kind(graph, bundle.info.sizes, bundle.part("backbone."))


def _request_inputs(bundle: BaseBundle) -> list[Any]:
    width = bundle.tensors["item_embedding"].shape[1]
    return [
        helper.make_tensor_value_info("item_emb", TensorProto.FLOAT, ["B", "T", width]),
        helper.make_tensor_value_info("lengths", TensorProto.INT64, ["B"]),
        helper.make_tensor_value_info("candidate_emb", TensorProto.FLOAT, ["B", "C", width]),
    ]


def _scores(graph: Graph, hidden: str, output_bias: str | None) -> None:
    """Each row's last state, with the user's bias, times its candidates."""
    one = graph.constant(np.array([1]))
    place = graph.op("Unsqueeze", graph.op("Sub", "lengths", one), one)
    last = graph.op("GatherND", hidden, place, batch_dims=1)  # [B, D]
    if output_bias is not None:
        last = graph.op("Add", last, output_bias)
    two = graph.constant(np.array([2]))
    product = graph.op("MatMul", "candidate_emb", graph.op("Unsqueeze", last, two))
    graph.op("Squeeze", product, two, output="scores")


def _model(graph: Graph, inputs: list[Any], notes: Mapping[str, Any]) -> bytes:
    output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["B", "C"])
    constants = [numpy_helper.from_array(value, name) for name, value in graph.constants.items()]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "assembled_network", inputs, [output], constants),
        producer_name="recbole_fofa",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(model, {key: str(value) for key, value in notes.items()})
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data
