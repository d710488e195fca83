"""What a device spends, in closed form: parameters, MACs, bytes.

One MAC is two FLOPs. Biases, norms and activations are not counted, nor is the lookup of an
embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from recbole_fofa.device.bundle_info import BundleInfo
from recbole_fofa.device.payload import payload_size
from recbole_fofa.device_profile import DeviceProfile
from recbole_fofa.model.extractor import SequenceExtractor
from recbole_fofa.model.mapper import Hypernetwork
from recbole_fofa.model.network import AdaptiveNetwork

BYTES = 4
"""Of a float32, in which every device computes."""


@dataclass(frozen=True)
class Cost:
    """Of one part: its parameters, and the MACs of one user's pass through it."""

    parameters: int
    macs: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.macs + other.macs)


def part_costs(network: AdaptiveNetwork, length: int, behaviour_length: int) -> dict[str, Cost]:
    """Costs by part.

    Args:
        network: The network.
        length: Items that a request reads, ``T``.
        behaviour_length: Items that adaptation reads, ``H``.

    Returns:
        ``controller`` and ``mapper extractor``, once a session on the device;
        ``hypernetwork <l>``, once a session in the cloud for each kept block, ``output bias`` and
        ``repeat bias``; ``block <l>`` and ``input and output``, for each request on the device.
    """
    backbone = network.backbone
    parts = {"input and output": Cost(_size(backbone), backbone.finish_macs(length))}
    for index, block in enumerate(backbone.blocks):
        parts[f"block {index}"] = Cost(block.size, backbone.block_macs(index, length))
    controller, mapper = network.controller, network.mapper
    if controller is not None:
        macs = extractor_macs(controller.extractor, behaviour_length)
        guide = controller.policy_projection
        heads = [controller.head, controller.budget_embedding]
        heads += [guide] if network.structure_guided and mapper is not None else []
        macs += sum(layer.weight.numel() for layer in heads if layer is not None)
        parts["controller"] = Cost(_size(controller), macs)
    if mapper is not None:
        macs = extractor_macs(mapper.extractor, behaviour_length)
        parts["mapper extractor"] = Cost(_size(mapper.extractor), macs)
        for index in range(len(backbone.blocks)):
            own = mapper.hypernetwork(index)
            parts[f"hypernetwork {index}"] = Cost(_size(own), hypernetwork_macs(own))
        if mapper.to_output_bias is not None:
            layer = mapper.to_output_bias
            parts["output bias"] = Cost(_size(layer), layer.weight.numel())
        if mapper.to_repeat_bias is not None:
            layer = mapper.to_repeat_bias
            parts["repeat bias"] = Cost(_size(layer), layer.weight.numel())
    return parts


def extractor_macs(extractor: SequenceExtractor, behaviour_length: int) -> int:
    """Gate and candidate of each item."""
    return behaviour_length * extractor.read.weight.numel()


def hypernetwork_macs(hypernetwork: Hypernetwork) -> int:
    """What is generated for one user; low-rank matrices stay factors."""
    macs = hypernetwork.to_code.weight.numel() + hypernetwork.basis.numel()
    if hypernetwork.form == "full":
        macs += hypernetwork.generator.numel()
    elif hypernetwork.form == "low_rank":
        macs += hypernetwork.to_cores.weight.numel()
    return macs


def request_macs(network: AdaptiveNetwork, length: int, structure: Sequence[int]) -> int:
    """MACs of one request of ``length`` items with a structure, without scores of candidates."""
    backbone = network.backbone
    kept = np.flatnonzero(structure).tolist()
    return sum(backbone.block_macs(i, length) for i in kept) + backbone.finish_macs(length)


@dataclass(frozen=True)
class StructureCost:
    """What a structure costs a device.

    Attributes:
        macs: Of one request at full input length, without the scores of candidates.
        payload_bytes: Of the file that comes down.
        memory_bytes: The bundle's file, kept blocks and the largest set of states in float32.
    """

    macs: int
    payload_bytes: int
    memory_bytes: int

    def fits(self, profile: DeviceProfile) -> bool:
        """Whether it is within every limit of a profile."""
        limits = (
            (self.macs, profile.max_macs),
            (self.payload_bytes, profile.max_payload_bytes),
            (self.memory_bytes, profile.max_memory_bytes),
        )
        return all(limit is None or cost <= limit for cost, limit in limits)


def structure_cost(
    network: AdaptiveNetwork, info: BundleInfo, bundle_bytes: int, structure: Sequence[int]
) -> StructureCost:
    """Cost of a structure, ``L`` numbers of 0 or 1, on a device of a bundle.

    Args:
        network: The network.
        info: Description of the bundle.
        bundle_bytes: Of the bundle's file.
        structure: 1 for a kept and 0 for a dropped block.
    """
    backbone, length = network.backbone, info.max_length
    kept = np.flatnonzero(structure).tolist()
    own = sum(backbone.blocks[index].size for index in kept)
    states = max((backbone.activation_size(index, length) for index in kept), default=0)
    return StructureCost(
        macs=request_macs(network, length, structure),
        payload_bytes=payload_size(info, structure),
        memory_bytes=bundle_bytes + BYTES * (own + states),
    )


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
