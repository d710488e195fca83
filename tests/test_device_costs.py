"""Closed forms of costs against what torch and numpy count, and the limits of profiles."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from device_models import FREE, histories, model_and_tokens, padded
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from recbole_fofa.cloud.assemble import assemble, make_bundle, structure_costs
from recbole_fofa.cloud.cost import StructureCost, part_costs
from recbole_fofa.device.payload import user_network
from recbole_fofa.device.runtime import NumpyEngine
from recbole_fofa.device_profile import DeviceProfile, load_profile, shipped_profiles
from recbole_fofa.errors import ConfigError
from recbole_fofa.model.backbone import BACKBONES
from recbole_fofa.model.network import Decision

LENGTH = 8


def attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Scores and their weighted sum: torch counts this operator as nothing on a CPU."""
    (batch, heads, length, width), others = query, key[2]
    return 2 * batch * heads * length * others * (width + value[3])


def counted_macs(call: Any) -> int:
    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops
        },
    )
    with counter, torch.no_grad():
        call()
    return int(counter.get_total_flops()) // 2


@pytest.mark.parametrize("form", ["full", "residual", "low_rank"])
@pytest.mark.parametrize("backbone", sorted(set(BACKBONES) - {"fmlprec"}))
def test_macs_are_what_torch_counts(tmp_path: Path, backbone: str, form: str) -> None:
    """Each part alone. The counter has no formula for FMLP-Rec's Fourier transform."""
    model, tokens = model_and_tokens(tmp_path, backbone=backbone, mapper_form=form)
    network = model.network
    parts = part_costs(network, LENGTH, LENGTH)
    behaviour, lengths = padded(model, tokens, [tokens[1 : LENGTH + 1]], LENGTH)
    item_emb = model.item_embedding(behaviour).detach()

    controller = network.controller
    logits = controller(item_emb, lengths)
    found = counted_macs(lambda: controller.structural_vector(controller(item_emb, lengths)))
    assert parts["controller"].macs == found
    extractor = network.mapper.extractor
    assert parts["mapper extractor"].macs == counted_macs(lambda: extractor(item_emb, lengths))
    interest = extractor(item_emb, lengths)
    for index in range(3):
        base = dict(network.base[index].named_parameters())
        found = counted_macs(lambda i=index, b=base: network.mapper.generate(i, interest, b))
        assert parts[f"hypernetwork {index}"].macs == found
    found = counted_macs(lambda: network.mapper.output_bias(interest))
    assert parts["output bias"].macs == found
    found = counted_macs(lambda: network.mapper.repeat_bias(interest))
    assert parts["repeat bias"].macs == found

    # One shared set, as an assembled network has: factors of a low-rank weight cost more.
    bundle = make_bundle(model, FREE, tokens)
    payload = assemble(model, bundle.info, (1, 1, 1), interest[0])
    own = [
        {name: torch.from_numpy(value) for name, value in block.items()}
        for block in user_network(bundle, payload).parameters
    ]
    for index in range(3):
        found = counted_macs(lambda i=index: network.backbone.apply_block(i, item_emb, own[i]))
        assert parts[f"block {index}"].macs == found
    assert parts["input and output"].macs == counted_macs(
        lambda: network.backbone.finish(network.backbone.embed(item_emb))
    )
    assert logits.shape == (1, 3, 2)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(
    "changes",
    [{}, {"mapper_form": "full"}, {"use_mapper": False}, {"use_controller": False}],
    ids=str,
)
def test_parameters_are_all_counted_once(
    tmp_path: Path, backbone: str, changes: dict[str, Any]
) -> None:
    model, _ = model_and_tokens(tmp_path, backbone=backbone, **changes)
    counted = sum(cost.parameters for cost in part_costs(model.network, LENGTH, LENGTH).values())
    # A block that is generated whole has no base of its own.
    generated = sum(
        spec.size
        for block in model.network.backbone.blocks
        for name, spec in block.parameters.items()
        if model.network.mapper is not None and name in model.network.mapper.without_base
    )
    guide = model.network.mapper.block_embedding if model.network.mapper is not None else None
    assert guide is None
    assert counted - generated == sum(p.numel() for p in model.network.parameters())


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("length", [16, 48])
def test_states_are_what_numpy_allocates(tmp_path: Path, backbone: str, length: int) -> None:
    """numpy needs temporaries of its own: the closed form at least, at most four times it."""
    model, tokens = model_and_tokens(
        tmp_path, backbone=backbone, MAX_ITEM_LIST_LENGTH=length, hidden_size=32, inner_size=128
    )
    bundle = make_bundle(model, FREE, tokens)
    payload = assemble(model, bundle.info, (1, 0, 0), torch.zeros(32))
    engine, own = NumpyEngine(bundle), user_network(bundle, payload)
    x = np.random.default_rng(0).normal(size=(1, length, 32)).astype(np.float32)
    tracemalloc.start()
    engine._backbone.apply_block(0, x, own.parameters[0])
    peak = tracemalloc.get_traced_memory()[1] + x.nbytes
    tracemalloc.stop()
    reckoned = 4 * model.network.backbone.activation_size(0, length)
    assert reckoned <= peak * 1.05
    assert peak <= 4 * reckoned + 20_000


def test_memory_and_macs_of_structures(tmp_path: Path) -> None:
    model, tokens = model_and_tokens(tmp_path)
    bundle = make_bundle(model, FREE, tokens)
    costs = structure_costs(model, bundle.info, bundle.tensors)
    block = model.network.backbone.blocks[0].size
    assert costs[7].macs == 3 * costs[1].macs == 3 * model.network.block_macs[0]
    assert costs[7].memory_bytes - costs[1].memory_bytes == 2 * 4 * block
    states = model.network.backbone.activation_size(0, 8)
    # All structures are allowed here, which is what the size of the bundle is reckoned with.
    assert costs[1].memory_bytes == len(bundle.to_bytes()) + 4 * (block + states)


def test_a_mask_costs_what_is_kept(tmp_path: Path) -> None:
    """A dropped block is not computed in the cloud either, whoever else keeps it."""
    model, tokens = model_and_tokens(tmp_path)
    users = histories(tokens, 3)
    item_seq, _ = padded(model, tokens, users, 8)
    interest = torch.randn(3, 16)

    def macs(rows: list[list[int]]) -> int:
        decision = Decision(torch.tensor(rows, dtype=torch.float32), interest, None)
        adaptation = model.network.generate(decision)
        return counted_macs(lambda: model.encode(item_seq, adaptation))

    all_of_them = macs([[1, 1, 1]] * 3)
    assert macs([[1, 1, 1], [1, 0, 0], [0, 0, 1]]) * 9 == all_of_them * 5
    assert macs([[0, 0, 0]] * 3) == 0


@given(
    costs=st.tuples(*[st.integers(0, 9)] * 3),
    limits=st.tuples(*[st.one_of(st.none(), st.integers(1, 9))] * 3),
)
def test_every_limit_counts(costs: Any, limits: Any) -> None:
    profile = DeviceProfile(
        name="x", max_macs=limits[0], max_payload_bytes=limits[1], max_memory_bytes=limits[2]
    )
    within = all(limit is None or cost <= limit for cost, limit in zip(costs, limits, strict=True))
    assert StructureCost(*costs).fits(profile) == within


@pytest.mark.parametrize("name", shipped_profiles())
def test_shipped_profiles_are_complete(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert None not in profile.model_dump().values()


def test_shipped_profiles_hold_what_their_comments_say(tmp_path: Path) -> None:
    """On the default sizes: one block, two blocks, eight."""
    sizes = {"hidden_size": 64, "inner_size": 256, "MAX_ITEM_LIST_LENGTH": 50}
    kept = {}
    for n_layers in (1, 2, 8):
        model, tokens = model_and_tokens(tmp_path, **{**sizes}, mapper_rank=16)
        if n_layers != 3:
            model = resized(model, n_layers)
        for name in shipped_profiles():
            allowed = make_bundle(model, load_profile(name), tokens).info.allowed
            kept[name, n_layers] = max(code.bit_count() for code in allowed)
    assert [kept["low", n] for n in (1, 2, 8)] == [1, 1, 1]
    assert [kept["mid", n] for n in (1, 2, 8)] == [1, 2, 2]
    assert [kept["high", n] for n in (1, 2, 8)] == [1, 2, 8]


def resized(model: Any, n_layers: int) -> Any:
    from recbole_fofa.recommender.build import build_network

    model.settings = model.settings.model_copy(update={"n_layers": n_layers})
    model.network = build_network(model.settings, model.max_seq_length).eval()
    return model


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a b", "name: String should match pattern"),
        ("max_macs: -3", "max_macs: Input should be greater than 0"),
        ("max_macs: true", "max_macs: Input should be a valid integer"),
        ("max_mac: 3", "max_mac: Extra inputs are not permitted; known keys: name, max_macs"),
        ("precision: bf16", "precision: Input should be 'fp32', 'fp16' or 'int8'"),
        ("- 3", "expected 'key: value' lines"),
        ("max_macs: [", "device profile"),
    ],
)
def test_faulty_profiles_name_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_profile(str(path))
    assert message in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_unknown_profile_suggests(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no device profile 'hihg'; did you mean 'high'"):
        load_profile("hihg")
    with pytest.raises(ConfigError, match="Shipped: high, low, mid"):
        load_profile(str(tmp_path / "none.yaml"))
    (tmp_path / "tablet.yaml").write_text("max_macs: 5\n", encoding="utf-8")
    assert load_profile(str(tmp_path / "tablet.yaml")) == DeviceProfile(name="tablet", max_macs=5)
