"""One user's scores are the same in the cloud, assembled in torch, and on the device."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from device_models import (
    FREE,
    cloud_scores,
    histories,
    model_and_tokens,
    padded,
    with_repeats,
)

from recbole_fofa.cloud.assemble import assemble, assembled_network, make_bundle
from recbole_fofa.cloud.service import CloudService
from recbole_fofa.device.runtime import DeviceRuntime
from recbole_fofa.model.backbone import BACKBONES
from recbole_fofa.model.network import Decision

STRUCTURES = list(itertools.product((0, 1), repeat=3))
ABLATIONS = [
    {},
    {"mapper_form": "full"},
    {"mapper_form": "residual"},
    {"parallel_mappers": False},
    {"use_mapper": False},
    {"use_controller": False},
    {"structure_guided": False},
    {"budget_aware": True},
    {"hidden_act": "relu"},
    {"hidden_act": "swish"},
]


def close(found: Any, expected: Any) -> None:
    scale = float(np.abs(np.asarray(expected)).max())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * max(1.0, scale))


@pytest.mark.parametrize("payload", ["delta", "dense"])
@pytest.mark.parametrize("changes", ABLATIONS, ids=str)
def test_a_session_gives_the_cloud_models_scores(
    tmp_path: Path, changes: dict[str, Any], payload: Any
) -> None:
    """Extractors, controller and network on the device; hypernetworks in the cloud."""
    model, tokens = model_and_tokens(tmp_path, **changes)
    sessions_give_the_cloud_models_scores(model, tokens, histories(tokens), payload)


def sessions_give_the_cloud_models_scores(
    model: Any, tokens: list[str], users: list[list[str]], form: Any
) -> None:
    cloud = CloudService(model, tokens)
    bundle = cloud.enroll(FREE.model_copy(update={"payload": form}))
    structures, expected = cloud_scores(model, tokens, users)
    for history, structure, scores in zip(users, structures, expected, strict=True):
        device = DeviceRuntime(bundle)
        uplink = device.uplink(history)
        assert uplink.structure == tuple(structure.int().tolist())
        device.apply(cloud.handle(uplink.to_bytes()))
        close(device.score(history, tokens[1:]), scores.numpy())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_structure_of_every_backbone(tmp_path: Path, backbone: str) -> None:
    """Cloud, assembled torch and numpy; none, all and everything between."""
    model, tokens = model_and_tokens(tmp_path, backbone=backbone, dilations=[1, 2])
    bundle = make_bundle(model, FREE, tokens)
    users = histories(tokens)
    behaviour = padded(model, tokens, users, model.settings.adapt_seq_length)
    item_seq, lengths = padded(model, tokens, users, model.max_seq_length)
    with torch.no_grad():
        interest = model.decide(*behaviour).interest
        candidates = model.item_embedding.weight[1:].expand(len(users), -1, -1)
        item_emb = model.item_embedding(item_seq)
    for structure in STRUCTURES:
        rows = torch.tensor(structure, dtype=torch.float32).expand(len(users), -1)
        with torch.no_grad():
            adaptation = model.network.generate(Decision(rows, interest, None))
            hidden = model.encode(item_seq, adaptation)[torch.arange(len(users)), lengths - 1]
            expected = (hidden @ model.item_embedding.weight[1:].T).numpy()
            ids = [[tokens.index(token) for token in row] for row in users]
            of_device = with_repeats(torch.from_numpy(expected), adaptation, ids).numpy()
        for user, history in enumerate(users):
            payload = assemble(model, bundle.info, structure, interest[user])
            device = DeviceRuntime(bundle)
            device.apply(payload.to_bytes(bundle.info))
            close(device.score(history, tokens[1:]), of_device[user])
            network = assembled_network(model, bundle, payload)
            one = slice(user, user + 1)
            with torch.no_grad():
                found = network(item_emb[one], lengths[one], candidates[one])
            close(found[0].numpy(), expected[user])


def test_an_assembled_network_holds_the_kept_blocks_alone(tmp_path: Path) -> None:
    model, tokens = model_and_tokens(tmp_path)
    bundle = make_bundle(model, FREE, tokens)
    size = model.network.backbone.blocks[0].size
    for structure in STRUCTURES:
        payload = assemble(model, bundle.info, structure, torch.zeros(16))
        network = assembled_network(model, bundle, payload)
        assert sum(p.numel() for p in network.block_parameters.parameters()) == (
            sum(structure) * size
        )


def test_the_runtime_needs_neither_torch_nor_recbole(tmp_path: Path) -> None:
    """In a process of its own, with both made impossible to import."""
    model, tokens = model_and_tokens(tmp_path)
    cloud = CloudService(model, tokens)
    (tmp_path / "base").write_bytes(cloud.enroll(FREE))
    history = histories(tokens)[3]
    device = DeviceRuntime((tmp_path / "base").read_bytes())
    (tmp_path / "payload").write_bytes(cloud.handle(device.uplink(history).to_bytes()))
    program = f"""
import sys
for name in ("torch", "recbole", "pandas", "pydantic", "yaml", "scipy"):
    sys.modules[name] = None
from pathlib import Path
from recbole_fofa.device.runtime import DeviceRuntime
device = DeviceRuntime(Path("base").read_bytes())
device.uplink({history!r}).to_bytes()
device.apply(Path("payload").read_bytes())
print(*device.recommend({history!r}, {tokens[1:]!r}, 3))
"""
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    best = cloud_scores(model, tokens, [history])[1][0].topk(3).indices
    assert done.stdout.split() == [tokens[int(place) + 1] for place in best]


def test_a_smaller_cache_ranks_what_it_holds(tmp_path: Path) -> None:
    """Items outside of it are skipped in histories, counted, and refused as candidates."""
    model, tokens = model_and_tokens(tmp_path)
    cached = tokens[3:9]
    cloud = CloudService(model, tokens)
    device = DeviceRuntime(cloud.enroll(FREE, cached))
    history = [cached[0], tokens[1], cached[2]]
    device.apply(cloud.handle(device.uplink(history).to_bytes()))
    expected = cloud_scores(model, tokens, [[cached[0], cached[2]]])[1][0]
    close(device.score(history, cached), expected[2:8].numpy())
    assert device.unknown_items == 2
    with pytest.raises(ValueError, match=f"'{tokens[1]}' is not among the cached"):
        device.score(history, [tokens[1]])
    with pytest.raises(ValueError, match="none of the 1 recent items"):
        device.score([tokens[1]], cached)


def test_a_refused_payload_leaves_the_one_before_in_use(tmp_path: Path) -> None:
    model, tokens = model_and_tokens(tmp_path)
    cloud = CloudService(model, tokens)
    device = DeviceRuntime(cloud.enroll(FREE))
    history = histories(tokens)[4]
    with pytest.raises(ValueError, match="no payload yet"):
        device.score(history, tokens[1:])
    answer = cloud.handle(device.uplink(history).to_bytes())
    device.apply(answer)
    before = device.score(history, tokens[1:])
    with pytest.raises(ValueError, match="damaged"):
        device.apply(answer[:-1])
    assert (device.score(history, tokens[1:]) == before).all()


def test_an_empty_history_adapts_like_the_cloud(tmp_path: Path) -> None:
    model, tokens = model_and_tokens(tmp_path)
    device = DeviceRuntime(make_bundle(model, FREE, tokens))
    with torch.no_grad():
        decision = model.decide(torch.zeros(1, 8, dtype=torch.long), torch.tensor([0]))
    uplink = device.uplink([])
    assert uplink.structure == tuple(decision.structure[0].int().tolist())
    close(uplink.interest, decision.interest[0].numpy())


@pytest.mark.parametrize("form", ["delta", "dense"])
@pytest.mark.parametrize("state", ["keep_all", "share_base"])
@pytest.mark.parametrize("budget", [None, 0.4])
def test_each_warm_up_state_and_budget_is_that_of_the_evaluation(
    tmp_path: Path, state: str, budget: float | None, form: Any
) -> None:
    """While the controller is frozen its structural vector still guides the mapper."""
    model, tokens = model_and_tokens(tmp_path, budget_aware=True, budget=budget)
    setattr(model, state, True)
    sessions_give_the_cloud_models_scores(model, tokens, histories(tokens, 8, seed=2), form)


def test_the_budget_of_the_settings_holds_on_devices(tmp_path: Path) -> None:
    model, tokens = model_and_tokens(tmp_path, budget_aware=True, budget=0.4)
    bundle = make_bundle(model, FREE, tokens)
    assert bundle.info.allowed == [0, 1, 2, 4]
    device = DeviceRuntime(bundle)
    users = histories(tokens, 8, seed=2)
    for history, row in zip(users, cloud_scores(model, tokens, users)[0], strict=True):
        assert device.uplink(history).structure == tuple(row.int().tolist())


def test_warm_up_states_are_exported_as_they_are_evaluated(tmp_path: Path) -> None:
    """A checkpoint from a warm-up keeps all blocks, and gives all users the base."""
    model, tokens = model_and_tokens(tmp_path)
    model.keep_all = model.share_base = True
    bundle = make_bundle(model, FREE, tokens)
    assert (bundle.info.has_controller, bundle.info.mapper_form) == (False, None)
    history = histories(tokens)[2]
    structure, expected = cloud_scores(model, tokens, [history])
    device = DeviceRuntime(bundle)
    uplink = device.uplink(history)
    assert uplink.structure == tuple(structure[0].int().tolist())
    device.apply(assemble(model, bundle.info, uplink.structure, None))
    close(device.score(history, tokens[1:]), expected[0].numpy())


def test_info_with_a_budget_is_what_the_controller_is_told(tmp_path: Path) -> None:
    model, tokens = model_and_tokens(tmp_path, budget_aware=True)
    one_block = model.network.block_macs[0]
    profile = FREE.model_copy(update={"max_macs": 2 * one_block})
    bundle = make_bundle(model, profile, tokens)
    assert bundle.info.budget == pytest.approx(2 / 3)
    assert sorted(bundle.info.allowed) == [0, 1, 2, 3, 4, 5, 6]
    device = DeviceRuntime(bundle)
    other = DeviceRuntime(replace(bundle, info=replace(bundle.info, budget=0.1)))
    history = histories(tokens)[4]
    assert not np.allclose(device.uplink(history).interest, other.uplink(history).interest)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_device_computes_in_float32(tmp_path: Path, backbone: str) -> None:
    """A single float64 constant would double time and memory unnoticed."""
    model, tokens = model_and_tokens(tmp_path, backbone=backbone)
    device = DeviceRuntime(make_bundle(model, FREE, tokens))
    uplink = device.uplink(tokens[1:5])
    assert uplink.interest.dtype == np.float32
    device.apply(assemble(model, device.bundle.info, (1, 1, 1), torch.zeros(16)))
    assert device.score(tokens[1:5], tokens[1:]).dtype == np.float32
