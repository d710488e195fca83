"""The ONNX graphs: other users than any they were made with, any batch, length, candidates."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from device_models import FREE, histories, model_and_tokens, padded

from recbole_fofa.cloud.assemble import assemble, make_bundle
from recbole_fofa.cloud.onnx_graph import make_graph, make_standalone_graph
from recbole_fofa.cloud.service import CloudService
from recbole_fofa.device.onnx_engine import OnnxEngine, StandaloneEngine
from recbole_fofa.device.payload import user_network
from recbole_fofa.device.runtime import DeviceRuntime, NumpyEngine
from recbole_fofa.errors import DeviceError
from recbole_fofa.model.backbone import BACKBONES
from recbole_fofa.model.network import Decision


@pytest.mark.parametrize("backbone", BACKBONES)
def test_one_graph_serves_all_users_structures_and_shapes(tmp_path: Path, backbone: str) -> None:
    """Against the cloud's model for every structure, at batch 1, 3 and 8 and several lengths."""
    model, tokens = model_and_tokens(tmp_path, backbone=backbone, dilations=[1, 2])
    bundle = make_bundle(model, FREE, tokens)
    reads: list[int] = []

    def read_graph(n_kept: int) -> bytes:
        reads.append(n_kept)
        return make_graph(bundle, n_kept)

    engine = OnnxEngine(bundle, read_graph)
    generator = torch.Generator().manual_seed(1)
    for structure in itertools.product((0, 1), repeat=3):
        for n_rows, length, n_candidates in ((1, 1, 1), (3, 5, 4), (8, 8, 11)):
            interest = torch.randn(16, generator=generator)  # another user each time
            item_emb = torch.randn(n_rows, length, 16, generator=generator)
            candidates = torch.randn(n_rows, n_candidates, 16, generator=generator)
            lengths = torch.randint(1, length + 1, (n_rows,), generator=generator)
            with torch.no_grad():
                rows = torch.tensor([structure], dtype=torch.float32).expand(n_rows, -1)
                decision = Decision(rows, interest.expand(n_rows, -1), None)
                hidden = model.network(item_emb, model.network.generate(decision))
                last = hidden[torch.arange(n_rows), lengths - 1]
                expected = torch.einsum("bd,bcd->bc", last, candidates).numpy()
            payload = assemble(model, bundle.info, structure, interest)
            found = engine.scores(
                user_network(bundle, payload),
                item_emb.numpy(),
                lengths.numpy(),
                candidates.numpy(),
            )
            scale = max(1.0, float(np.abs(expected).max()))
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * scale)
    # One session for each number of blocks, not for each user.
    assert sorted(reads) == [0, 1, 2, 3]


@pytest.mark.parametrize("activation", ["relu", "swish", "tanh", "sigmoid"])
def test_a_session_through_onnxruntime(tmp_path: Path, activation: str) -> None:
    model, tokens = model_and_tokens(tmp_path, hidden_act=activation)
    cloud = CloudService(model, tokens)
    in_numpy = DeviceRuntime(cloud.enroll(FREE))
    bundle = in_numpy.bundle
    in_onnx = DeviceRuntime(bundle, OnnxEngine(bundle, lambda n: make_graph(bundle, n)))
    for history in histories(tokens, seed=4):
        answer = cloud.handle(in_numpy.uplink(history).to_bytes())
        for device in (in_numpy, in_onnx):
            device.apply(answer)
        np.testing.assert_allclose(
            in_onnx.score(history, tokens[1:]),
            in_numpy.score(history, tokens[1:]),
            rtol=1e-4,
            atol=1e-4,
        )


@pytest.mark.parametrize("backbone", BACKBONES)
def test_nothing_random_and_nothing_of_a_user_is_inside(tmp_path: Path, backbone: str) -> None:
    model, tokens = model_and_tokens(tmp_path, backbone=backbone)
    bundle = make_bundle(model, FREE, tokens)
    graph = onnx.load_from_string(make_graph(bundle, 2)).graph
    assert not {node.op_type for node in graph.node} & {
        "RandomNormal",
        "RandomUniform",
        "Bernoulli",
        "Dropout",
        "If",
        "Loop",
    }
    held = sum(int(np.prod(constant.dims)) for constant in graph.initializer)
    shared = sum(p.numel() for p in model.network.backbone.parameters())
    assert held <= shared + 200  # shapes and scalars
    assert make_graph(bundle, 2) == make_graph(bundle, 2)


def test_a_graph_of_another_model_is_refused(tmp_path: Path) -> None:
    model, tokens = model_and_tokens(tmp_path)
    theirs = make_bundle(model, FREE, tokens)
    with torch.no_grad():
        model.item_embedding.weight[1] += 1
    bundle = make_bundle(model, FREE, tokens)
    engine = OnnxEngine(bundle, lambda n: make_graph(theirs, n))
    device = DeviceRuntime(bundle, engine)
    device.apply(assemble(model, bundle.info, (1, 0, 0), torch.zeros(16)))
    with pytest.raises(DeviceError, match="the ONNX graph is of model"):
        device.score(tokens[1:3], tokens[1:])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_standalone_graph_needs_no_weights(tmp_path: Path, backbone: str) -> None:
    """For runtimes that pack constant weights; there is nothing of a mapper in it."""
    model, tokens = model_and_tokens(tmp_path, backbone=backbone, dilations=[1, 2])
    bundle = make_bundle(model, FREE, tokens)
    for structure in ((0, 0, 0), (0, 1, 0), (1, 0, 1)):
        payload = assemble(model, bundle.info, structure, torch.randn(16))
        data = make_standalone_graph(bundle, payload)
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        names = {value.name for value in session.get_inputs()}
        assert names == {"item_emb", "lengths", "candidate_emb"}
        feeds = {
            "item_emb": np.random.default_rng(0).normal(size=(3, 5, 16)).astype(np.float32),
            "lengths": np.array([1, 5, 3]),
            "candidate_emb": np.random.default_rng(1).normal(size=(3, 4, 16)).astype(np.float32),
        }
        expected = NumpyEngine(bundle).scores(user_network(bundle, payload), *feeds.values())
        np.testing.assert_allclose(session.run(["scores"], feeds)[0], expected, atol=1e-4)
        held = sum(int(np.prod(c.dims)) for c in onnx.load_from_string(data).graph.initializer)
        backbone_size = sum(p.numel() for p in model.network.backbone.parameters())
        blocks = sum(structure) * model.network.backbone.blocks[0].size
        assert blocks <= held <= blocks + backbone_size + 16 + 200


@pytest.mark.parametrize("repeat_bias", ["generated", "none"])
def test_a_standalone_graph_of_another_user_is_refused(tmp_path: Path, repeat_bias: str) -> None:
    model, tokens = model_and_tokens(tmp_path, repeat_bias=repeat_bias)
    bundle = make_bundle(model, FREE, tokens)
    payloads = [
        assemble(model, bundle.info, structure, torch.randn(16))
        for structure in ((1, 0, 0), (0, 1, 0), (1, 0, 0))
    ]
    device = DeviceRuntime(bundle, StandaloneEngine(make_standalone_graph(bundle, payloads[0])))
    device.apply(payloads[0])
    assert device.score(tokens[1:3], tokens[1:]).shape == (len(tokens) - 1,)
    for payload in payloads[1:]:  # of another structure; of the same one
        device.apply(payload)
        with pytest.raises(DeviceError, match="is not of the payload's user"):
            device.score(tokens[1:3], tokens[1:])
    with torch.no_grad():
        model.item_embedding.weight[3, 0] += 1
    other = make_bundle(model, FREE, tokens)
    with pytest.raises(DeviceError, match=f"the engine is of model {bundle.info.base}"):
        DeviceRuntime(other, StandaloneEngine(make_standalone_graph(bundle, payloads[0])))
    with pytest.raises(DeviceError, match="is no user's own"):
        StandaloneEngine(make_graph(bundle, 1))


def test_padding_is_never_read(tmp_path: Path) -> None:
    """What stands behind a row's length does not change its scores."""
    model, tokens = model_and_tokens(tmp_path)
    bundle = make_bundle(model, FREE, tokens)
    engine: Any = OnnxEngine(bundle, lambda n: make_graph(bundle, n))
    payload = assemble(model, bundle.info, (1, 1, 0), torch.ones(16))
    item_seq, lengths = padded(model, tokens, [tokens[1:4]], 8)
    item_emb = model.item_embedding(item_seq).detach().numpy()
    candidates = model.item_embedding.weight[1:].detach().numpy()[None]
    own = user_network(bundle, payload)
    before = engine.scores(own, item_emb, lengths.numpy(), candidates)
    item_emb[:, 3:] = 7.0
    assert (engine.scores(own, item_emb, lengths.numpy(), candidates) == before).all()
