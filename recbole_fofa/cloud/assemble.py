"""From the trained model to what devices hold and receive."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_fofa.cloud.cost import StructureCost, structure_cost
from recbole_fofa.device.bundle import BaseBundle, bundle_size
from recbole_fofa.device.bundle_info import BundleInfo
from recbole_fofa.device.payload import DevicePayload, Structure, check_allowed, user_network
from recbole_fofa.device_profile import DeviceProfile
from recbole_fofa.errors import ConfigError, DeviceError
from recbole_fofa.model.assembled import AssembledNetwork
from recbole_fofa.model.structure import all_structures, within_budget
from recbole_fofa.model.weights import dense_parameters
from recbole_fofa.recommender.forward_ofa import ForwardOFA


def fingerprint(model: ForwardOFA) -> str:
    """What a file was made from: 16 characters over settings, states and all parameters."""
    described = [model.settings.model_dump_json(), model.max_seq_length]
    digest = hashlib.sha256(repr([*described, model.keep_all, model.share_base]).encode())
    for name, value in model.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def make_bundle(
    model: ForwardOFA,
    profile: DeviceProfile,
    tokens: Sequence[str],
    items: Sequence[str] | None = None,
) -> BaseBundle:
    """What every device of a profile holds.

    Args:
        model: The trained model.
        profile: The device class.
        tokens: Token of each row of the item table; row 0 is padding.
        items: Tokens of the items to cache; all if not given.

    Raises:
        ConfigError: If the model is no ForwardOFA, an item is unknown, or nothing fits.
    """
    check_exportable(model)
    info = _describe(model, profile, _known_items(tokens, items))
    rows = {token: row for row, token in enumerate(tokens)}
    table = model.item_embedding.weight[[rows[token] for token in info.items]]
    tensors = {"item_embedding": _array(table), **_device_tensors(model, info)}
    costs = structure_costs(model, info, tensors)
    fitting = [code for code, cost in enumerate(costs) if cost.fits(profile)]
    if not fitting:
        raise ConfigError(_nothing_fits(costs[0], profile))
    if info.budget is not None:
        # The setting budget holds on devices too; a profile may leave less.
        share = torch.tensor([info.budget], dtype=torch.float64)
        within = within_budget(model.network.block_macs, share)[0]
        largest = max(costs[code].macs for code in fitting) - costs[0].macs
        budget = min(info.budget, largest / sum(model.network.block_macs))
        info = replace(info, budget=budget)
        fitting = [code for code in fitting if within[code]]
    return BaseBundle(replace(info, allowed=fitting), tensors)


def structure_costs(
    model: ForwardOFA, info: BundleInfo, tensors: Mapping[str, np.ndarray]
) -> list[StructureCost]:
    """Cost of each structure in the order of their codes, ``2^L`` of them."""
    size = bundle_size(info, tensors)
    structures = all_structures(len(info.blocks)).tolist()
    return [structure_cost(model.network, info, size, structure) for structure in structures]


def device_limits(
    info: BundleInfo, n_users: int, device: torch.device
) -> tuple[Tensor | None, Tensor]:
    """``budget`` ``[B]`` and ``allowed`` ``[2^L]`` that :meth:`ForwardOFA.decide` takes."""
    allowed = torch.zeros(2 ** len(info.blocks), dtype=torch.bool, device=device)
    allowed[info.allowed] = True
    if info.budget is None:
        return None, allowed
    return torch.full((n_users,), info.budget, dtype=torch.float64, device=device), allowed


@torch.no_grad()
def assemble(
    model: ForwardOFA, info: BundleInfo, structure: Structure, interest: Tensor | None
) -> DevicePayload:
    """A user's payload.

    Args:
        model: The trained model.
        info: Description of the device's bundle.
        structure: 1 for a kept and 0 for a dropped block, ``L`` numbers.
        interest: Structure-related interest ``[D]``; ``None`` without a mapper.

    Raises:
        DeviceError: If the structure is over the profile's limits, or the interest is missing.
    """
    check_allowed(structure, info)
    if (interest is None) != (info.mapper_form is None):
        raise DeviceError("an interest must be given exactly if the model has a mapper")
    tensors: dict[str, np.ndarray] = {}
    for index in np.flatnonzero(structure).tolist():
        if info.payload_form == "dense":
            own = _dense_block(model, index, interest)
        else:
            own = _own_factors(model, info, index, interest)
        tensors |= {f"block_{index}.{name}": _array(value) for name, value in own.items()}
    if info.output_size and interest is not None and model.network.mapper is not None:
        bias = model.network.mapper.output_bias(interest)
        tensors |= {"output_bias": _array(bias)} if bias is not None else {}
    if info.seen_length:
        repeats = model.network.repeat_bias(None if interest is None else interest[None], 1)
        tensors |= {"repeat_bias": _array(repeats)} if repeats is not None else {}
    return DevicePayload(structure, tensors)


def assembled_network(
    model: ForwardOFA, bundle: BaseBundle, payload: DevicePayload
) -> AssembledNetwork:
    """The network in torch that a device makes of its bundle and a payload."""
    own = user_network(bundle, payload)
    parameters = [
        {name: torch.from_numpy(value) for name, value in block.items()} for block in own.parameters
    ]
    bias = None if own.output_bias is None else torch.from_numpy(own.output_bias)
    return AssembledNetwork(model.network.backbone, own.kept, parameters, bias)


def check_exportable(model: Any) -> None:
    """Whether a model has structures and parameters to send.

    Raises:
        ConfigError: If not.
    """
    if not isinstance(model, ForwardOFA):
        raise ConfigError(
            f"{type(model).__name__} has no structures or parameters of single users: devices are "
            "served by ForwardOFA models"
        )


def _describe(model: ForwardOFA, profile: DeviceProfile, items: list[str]) -> BundleInfo:
    network, settings = model.network, model.settings
    mapper = None if model.share_base else network.mapper
    controller = None if model.keep_all else network.controller
    own = mapper.hypernetwork(0) if mapper is not None else None
    # A block that is generated whole has no base to change.
    is_delta = profile.payload == "delta" and (own is None or own.form != "full")
    sizes = settings.model_dump()
    backbone = network.backbone
    return BundleInfo(
        base=fingerprint(model),
        profile=profile.name,
        backbone=settings.backbone,
        sizes={name: sizes[name] for name in backbone.setting_names},
        blocks=[
            {name: list(spec.shape) for name, spec in block.parameters.items()}
            for block in backbone.blocks
        ],
        max_length=backbone.max_length,
        adapt_length=settings.adapt_seq_length,
        allowed=[],
        has_controller=controller is not None,
        budget=(settings.budget or 1.0) if settings.budget_aware else None,
        structure_guided=network.structure_guided
        and network.controller is not None
        and mapper is not None,
        mapper_form=own.form if own is not None else None,
        mapper_rank=own.rank if own is not None else 0,
        coded=own.coded if own is not None else [],
        parallel_mappers=settings.parallel_mappers,
        output_size=settings.hidden_size if mapper is not None and settings.output_bias else 0,
        seen_length=settings.repeat_seq_length if _has_repeat_bias(model) else 0,
        payload_form="delta" if is_delta else "dense",
        precision=profile.precision,
        items=items,
    )


def _has_repeat_bias(model: ForwardOFA) -> bool:
    settings = model.settings
    return settings.has_repeat_bias and (settings.repeat_bias == "shared" or not model.share_base)


def _device_tensors(model: ForwardOFA, info: BundleInfo) -> dict[str, np.ndarray]:
    network = model.network
    parts: dict[str, Mapping[str, Tensor]] = {"backbone": network.backbone.state_dict()}
    if network.controller is not None and (info.has_controller or info.structure_guided):
        parts["controller"] = network.controller.state_dict()
    if info.mapper_form is not None and network.mapper is not None:
        parts["extractor"] = network.mapper.extractor.state_dict()
    if info.payload_form == "delta":
        for index, base in enumerate(network.base):
            parts[f"base.{index}"] = base.state_dict()
        if info.mapper_form is not None and network.mapper is not None:
            for index, hypernetwork in enumerate(network.mapper.hypernetworks):
                parts[f"change.{index}"] = {
                    name: value
                    for name, value in hypernetwork.state_dict().items()
                    if name.split(".")[0] in ("basis", "left", "right")
                }
    return {
        f"{part}.{name}": _array(value)
        for part, own in parts.items()
        for name, value in own.items()
    }


def _dense_block(model: ForwardOFA, index: int, interest: Tensor | None) -> dict[str, Tensor]:
    base: dict[str, Tensor] = dict(model.network.base[index].named_parameters())
    mapper = model.network.mapper
    if mapper is None or interest is None:
        return base
    generated = mapper.generate(index, interest.unsqueeze(0), base)
    return {name: value[0] for name, value in dense_parameters(generated).items()}


def _own_factors(
    model: ForwardOFA, info: BundleInfo, index: int, interest: Tensor | None
) -> dict[str, Tensor]:
    mapper = model.network.mapper
    if mapper is None or interest is None:
        return {}
    hypernetwork = mapper.hypernetwork(index)
    condition = mapper.condition(index, interest.unsqueeze(0))
    own = {"code": hypernetwork.code(condition)[0]}
    if info.mapper_form == "low_rank":
        own["cores"] = hypernetwork.cores(condition)[0]
    return own


def _known_items(tokens: Sequence[str], items: Sequence[str] | None) -> list[str]:
    if items is None:
        return list(tokens[1:])
    known = set(tokens[1:])
    unknown = [token for token in items if token not in known]
    if unknown:
        raise ConfigError(
            f"{len(unknown)} of {len(items)} items to cache are not in the training data, "
            f"the first is {unknown[0]!r}"
        )
    return list(dict.fromkeys(items))


def _nothing_fits(least: StructureCost, profile: DeviceProfile) -> str:
    return (
        f"no structure fits device profile {profile.name}: even without a block the network takes "
        f"{least.macs} MACs (max_macs {profile.max_macs}), {least.payload_bytes} payload bytes "
        f"(max_payload_bytes {profile.max_payload_bytes}) and {least.memory_bytes} bytes of memory "
        f"(max_memory_bytes {profile.max_memory_bytes}): raise the limit, or cache fewer items"
    )


def _array(value: Tensor) -> np.ndarray:
    array: np.ndarray = value.detach().to("cpu", torch.float32).numpy()
    return array
