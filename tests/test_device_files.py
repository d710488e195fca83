"""Files and messages between cloud and device: exact sizes, damage refused, limits obeyed."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from device_models import FREE, histories, model_and_tokens
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from recbole_fofa.cloud.assemble import assemble, fingerprint, make_bundle
from recbole_fofa.cloud.service import CloudService
from recbole_fofa.device.bundle import BaseBundle
from recbole_fofa.device.codec import pack, packed_size, unpack
from recbole_fofa.device.payload import DevicePayload, payload_size
from recbole_fofa.device.precision import decode, encode
from recbole_fofa.device.runtime import DeviceRuntime
from recbole_fofa.device.uplink import Uplink, uplink_size
from recbole_fofa.errors import DeviceError
from recbole_fofa.model.backbone import BACKBONES

names = st.text("abcdefghij_.", min_size=1, max_size=12)
layouts = st.dictionaries(
    names,
    st.tuples(
        st.sampled_from(["float32", "float16", "int8"]),
        st.lists(st.integers(0, 40), min_size=1, max_size=3).map(tuple),
    ),
    max_size=6,
)


@given(layout=layouts, note=st.text(max_size=20))
def test_size_is_known_before_the_contents(layout: Any, note: str) -> None:
    tensors = {name: np.zeros(shape, dtype) for name, (dtype, shape) in layout.items()}
    data = pack("payload", {"note": note}, tensors)
    assert len(data) == packed_size("payload", {"note": note}, layout)
    metadata, found = unpack("payload", data)
    assert metadata == {"note": note}
    assert {name: (str(v.dtype), v.shape) for name, v in found.items()} == layout


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("form", ["delta", "dense"])
def test_payloads_are_as_large_as_reckoned(tmp_path: Path, form: Any, precision: Any) -> None:
    model, tokens = model_and_tokens(tmp_path)
    profile = FREE.model_copy(update={"payload": form, "precision": precision})
    info = make_bundle(model, profile, tokens).info
    for structure in itertools.product((0, 1), repeat=3):
        payload = assemble(model, info, structure, torch.randn(16))
        assert len(payload.to_bytes(info)) == payload_size(info, structure)


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_precisions_round_as_they_should(scale: float, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(3, 5, 7)).astype(np.float32) * scale
    values = values.astype(np.float32)
    for precision, tolerance in (("fp32", 0.0), ("fp16", 2**-11), ("int8", 0.5 / 127)):
        stored = encode({"x": values}, precision)  # type: ignore[arg-type]
        found = decode(stored, {"x": values.shape}, precision)["x"]  # type: ignore[arg-type]
        # fp16 rounds relative to each number, int8 relative to the largest of its channel.
        size = np.abs(values) if precision == "fp16" else np.abs(values).max(-1, keepdims=True)
        assert (np.abs(found - values) <= tolerance * size * 1.01 + 1e-7).all()


def test_numbers_that_do_not_fit_are_told() -> None:
    with pytest.raises(DeviceError, match="x holds values that are not finite as fp16"):
        encode({"x": np.array([1e6], np.float32)}, "fp16")
    with pytest.raises(DeviceError, match="not finite as int8"):
        encode({"x": np.array([[np.nan]], np.float32)}, "int8")


def device_and_answer(tmp_path: Path) -> tuple[DeviceRuntime, bytes, Any, list[str]]:
    model, tokens = model_and_tokens(tmp_path)
    cloud = CloudService(model, tokens)
    device = DeviceRuntime(cloud.enroll(FREE))
    return device, cloud.handle(device.uplink(histories(tokens)[3]).to_bytes()), cloud, tokens


def corrupted(data: bytes, draw: random.Random) -> bytes:
    """Bits flipped, bytes replaced, cut off, doubled or inserted."""
    kind, place = draw.randrange(5), draw.randrange(len(data))
    if kind == 0:
        return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]
    if kind == 1:
        # Blanks and digits are the likeliest to leave a header that can still be read.
        return data[:place] + bytes([draw.choice(b" \n\t019")]) + data[place + 1 :]
    if kind == 2:
        return data[:place]
    if kind == 3:
        return data[:place] + data[place : place + 9] + data[place:]
    return data + draw.randbytes(draw.randrange(1, 9))


def test_no_corruption_is_accepted_and_none_crashes(tmp_path: Path) -> None:
    device, answer, cloud, tokens = device_and_answer(tmp_path)
    uplink = device.uplink(tokens[1:4]).to_bytes()
    draw = random.Random(7)
    device.apply(answer)
    for data, receive in (
        (answer, device.apply),
        (uplink, cloud.handle),
        (device.bundle.to_bytes(), DeviceRuntime),
    ):
        n_refused = 0
        while n_refused < 1000:
            damaged = corrupted(data, draw)
            if damaged != data:
                with pytest.raises(DeviceError):
                    receive(damaged)
                n_refused += 1


def test_a_header_that_says_too_much_is_refused(tmp_path: Path) -> None:
    """Correct checksums do not help: what a file may hold follows from the bundle."""
    device, answer, _, _ = device_and_answer(tmp_path)
    metadata, tensors = unpack("payload", answer)
    name = next(iter(tensors))
    changed = {
        "tensor surplus: found float32 [1], expected none": (
            metadata,
            {**tensors, "surplus": np.zeros(1, np.float32)},
        ),
        f"tensor {name}: found none": (metadata, {k: v for k, v in tensors.items() if k != name}),
        f"tensor {name}: found float16": (
            metadata,
            {**tensors, name: tensors[name].astype(np.float16)},
        ),
        "base is 'another'": ({**metadata, "base": "another"}, tensors),
        "precision is 'fp16'": ({**metadata, "precision": "fp16"}, tensors),
        "extra is 1": ({**metadata, "extra": 1}, tensors),
        "'12x' is no structure": ({**metadata, "structure": "12x"}, tensors),
        "'11' is no structure of 3 blocks": ({**metadata, "structure": "11"}, tensors),
    }
    for message, (its_metadata, its_tensors) in changed.items():
        with pytest.raises(DeviceError) as caught:
            device.apply(pack("payload", its_metadata, its_tensors))
        assert message in str(caught.value)


def test_other_versions_and_kinds_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, answer, _, _ = device_and_answer(tmp_path)
    metadata, tensors = unpack("payload", answer)
    with pytest.raises(DeviceError, match="this file is a base"):
        device.apply(device.bundle.to_bytes())
    with pytest.raises(DeviceError, match="damaged or not a file of this package"):
        device.apply(save(load(answer), metadata={"fofa": "{}"}))
    monkeypatch.setattr("recbole_fofa.device.codec.VERSION", 4)
    newer = pack("payload", metadata, tensors)
    monkeypatch.undo()
    with pytest.raises(DeviceError, match="schema version 4, but this runtime reads version 3"):
        device.apply(newer)


def test_payloads_that_no_cloud_makes_are_refused(tmp_path: Path) -> None:
    """With a correct checksum too."""
    device, answer, _, _ = device_and_answer(tmp_path)
    metadata, tensors = unpack("payload", answer)
    name = next(iter(tensors))
    for value in (np.nan, np.inf):
        changed = {**tensors, name: np.full_like(tensors[name], value)}
        with pytest.raises(DeviceError, match="numbers that cannot be"):
            device.apply(pack("payload", metadata, changed))
    for structure in (None, 5, [["1"]], {"1": "0"}):
        with pytest.raises(DeviceError, match="is no structure"):
            device.apply(pack("payload", {**metadata, "structure": structure}, tensors))
    with pytest.raises(DeviceError, match="its tensors are not those"):
        device.apply(DevicePayload((1, 0, 0), {}))
    tight = replace(device.bundle, info=replace(device.bundle.info, allowed=[1]))
    payload = DevicePayload.from_bytes(answer, device.bundle.info)
    with pytest.raises(DeviceError, match="over the limits"):
        DeviceRuntime(tight).apply(replace(payload, structure=(1, 1, 1)))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_bundles_that_no_cloud_makes_are_refused(tmp_path: Path, backbone: str) -> None:
    """Every field and every tensor: what cannot be used is told when the bundle is read."""
    model, tokens = model_and_tokens(tmp_path, backbone=backbone, budget_aware=True)
    metadata, tensors = unpack("base", make_bundle(model, FREE, tokens).to_bytes())
    assert DeviceRuntime(pack("base", metadata, tensors))
    wrong: dict[str, list[Any]] = {
        "backbone": ["resnet", None, []],
        "allowed": [[], [99], [2, 1], "1", [-1]],
        "items": [5, ["a"] * 15, [[]] * 15, ["a"]],
        "blocks": [5, [], [{"x": "y"}] * 3],
        "adapt_length": ["a", 0, None],
        "max_length": [0, True],
        "sizes": [{}, 5, {name: "x" for name in metadata["sizes"]}],
        "precision": ["fp8"],
        "mapper_form": ["zzz", "full", "residual"],
        "mapper_rank": [5],
        "coded": [[], ["nothing"]],
        "budget": [None, 7.0, "x"],
        "output_size": [3, -16, "16"],
        "seen_length": [-1, "8", None],
        "has_controller": [1],
        "payload_form": ["dense"],
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(DeviceError):
                DeviceRuntime(pack("base", {**metadata, name: value}, tensors))
    for name, tensor in tensors.items():
        for changed in (
            {k: v for k, v in tensors.items() if k != name},
            {**tensors, name: np.full_like(tensor, np.nan)},
            {**tensors, name: tensor[..., :-1]},
            {**tensors, name: tensor.astype(np.float16)},
        ):
            with pytest.raises(DeviceError):
                DeviceRuntime(pack("base", metadata, changed))


def test_a_model_that_has_changed_is_told(tmp_path: Path) -> None:
    device, _, cloud, tokens = device_and_answer(tmp_path)
    message = device.uplink(tokens[1:5]).to_bytes()
    with torch.no_grad():
        next(cloud._model.network.mapper.parameters()).mul_(1.1)
    with pytest.raises(DeviceError, match="has changed since profile free was enrolled"):
        cloud.handle(message)
    cloud.enroll(FREE)
    with pytest.raises(DeviceError, match="send the device a new bundle"):
        cloud.handle(message)


def test_settings_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    two, _ = model_and_tokens(tmp_path, n_heads=2)
    four, _ = model_and_tokens(tmp_path, n_heads=4)
    assert all(torch.equal(a, b) for a, b in zip(two.parameters(), four.parameters(), strict=True))
    assert fingerprint(two) != fingerprint(four)


def test_long_item_names_count_as_memory(tmp_path: Path) -> None:
    from recbole_fofa.cloud.assemble import structure_costs

    model, tokens = model_and_tokens(tmp_path)
    long = [token * 1000 for token in tokens]
    bundle = make_bundle(model, FREE, long)
    costs = structure_costs(model, bundle.info, bundle.tensors)
    assert costs[0].memory_bytes >= len(bundle.to_bytes()) > 30_000


def test_a_bundle_round_trip(tmp_path: Path) -> None:
    model, tokens = model_and_tokens(tmp_path)
    bundle = make_bundle(model, FREE, tokens)
    again = BaseBundle.from_bytes(bundle.to_bytes())
    assert again.info == bundle.info
    assert again.to_bytes() == bundle.to_bytes()


def test_uplink_holds_an_interest_and_no_item(tmp_path: Path) -> None:
    device, _, _, tokens = device_and_answer(tmp_path)
    uplink = device.uplink(tokens[1:5])
    data = uplink.to_bytes()
    assert len(data) == uplink_size(device.bundle.info, 16)
    again = Uplink.from_bytes(data)
    assert (again.interest == uplink.interest).all()
    assert replace(again, interest=uplink.interest) == uplink
    # All there is: fingerprint, profile, structure, D numbers.
    assert set(vars(again)) == {"base", "profile", "structure", "interest"}


def test_the_cloud_refuses_what_it_cannot_serve(tmp_path: Path) -> None:
    device, _, cloud, tokens = device_and_answer(tmp_path)
    uplink = device.uplink(tokens[1:5])
    for message, changed in {
        "profile 'tablet' is not served here: free": replace(uplink, profile="tablet"),
        "was made from model 0123456789abcdef": replace(uplink, base="0123456789abcdef"),
        "2 blocks in place": replace(uplink, structure=(1, 0)),
        "an interest of 3 numbers": replace(uplink, interest=uplink.interest[:3]),
        "not finite": replace(uplink, interest=uplink.interest * np.float32(np.inf)),
    }.items():
        with pytest.raises(DeviceError, match=message):
            cloud.handle(changed.to_bytes())


@pytest.mark.parametrize("limit", ["max_macs", "max_payload_bytes", "max_memory_bytes"])
def test_nothing_over_a_limit_is_chosen_sent_or_accepted(tmp_path: Path, limit: str) -> None:
    """Each limit just below two blocks; the device asks for one, the cloud checks it."""
    from recbole_fofa.cloud.assemble import structure_costs

    model, tokens = model_and_tokens(tmp_path)
    free = make_bundle(model, FREE, tokens)
    costs = structure_costs(model, free.info, free.tensors)
    attribute = limit.removeprefix("max_")
    two_blocks = getattr(costs[3], attribute)
    profile = FREE.model_copy(update={"name": "tight", limit: two_blocks - 1})
    cloud = CloudService(model, tokens)
    device = DeviceRuntime(cloud.enroll(profile))
    assert [code for code in device.bundle.info.allowed if code.bit_count() > 1] == []
    for history in histories(tokens, 12, seed=3):
        uplink = device.uplink(history)
        assert sum(uplink.structure) == 1
        device.apply(cloud.handle(uplink.to_bytes()))
        with pytest.raises(DeviceError, match="structure 110 is over the limits of profile tight"):
            cloud.handle(replace(uplink, structure=(1, 1, 0)).to_bytes())
    # Even a file that somebody else made is checked on the device.
    free_payload = assemble(model, free.info, (1, 1, 0), torch.zeros(16)).to_bytes(free.info)
    with pytest.raises(DeviceError, match="over the limits"):
        device.apply(free_payload)


def test_a_profile_that_nothing_fits(tmp_path: Path) -> None:
    model, tokens = model_and_tokens(tmp_path)
    profile = FREE.model_copy(update={"name": "stone", "max_memory_bytes": 100})
    with pytest.raises(ValueError, match="no structure fits device profile stone"):
        make_bundle(model, profile, tokens)


def test_unknown_items_to_cache(tmp_path: Path) -> None:
    model, tokens = model_and_tokens(tmp_path)
    with pytest.raises(ValueError, match=r"1 of 2 items to cache .* 'nothing'"):
        make_bundle(model, FREE, tokens, [tokens[1], "nothing"])


def test_odd_requests_are_refused(tmp_path: Path) -> None:
    device, answer, _, tokens = device_and_answer(tmp_path)
    tokens = tokens[1:]
    device.apply(memoryview(answer))  # what sockets and maps of memory give
    assert DeviceRuntime(bytearray(device.bundle.to_bytes())).bundle.info == device.bundle.info
    assert len(device.recommend(tokens[:2], tokens, np.int64(3))) == 3
    for k in (-1, 0, 1.5, True):
        with pytest.raises(DeviceError, match="k must be"):
            device.recommend(tokens[:2], tokens, k)
    with pytest.raises(DeviceError, match="a list of items is expected"):
        device.score(tokens[:2], tokens[0])
    scores = device.score(tokens[:2], tokens)
    assert np.array_equal(device.score(iter(tokens[:2]), iter(tokens)), scores)
    for ask in (device.uplink, lambda recent: device.score(recent, tokens)):
        with pytest.raises(DeviceError, match="a list of items is expected"):
            ask(tokens[0])


def test_a_payload_of_another_model_is_refused(tmp_path: Path) -> None:
    model, tokens = model_and_tokens(tmp_path)
    info = make_bundle(model, FREE, tokens).info
    data = assemble(model, info, (1, 0, 0), torch.zeros(16)).to_bytes(info)
    with torch.no_grad():
        model.item_embedding.weight[3, 0] += 1
    other = make_bundle(model, FREE, tokens).info
    with pytest.raises(DeviceError, match="base is"):
        DevicePayload.from_bytes(data, other)
