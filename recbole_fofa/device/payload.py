"""What a device receives for a user: what is generated for the kept blocks, and no others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_fofa.device.bundle import BaseBundle
from recbole_fofa.device.bundle_info import BundleInfo
from recbole_fofa.device.codec import pack, packed_size, unpack
from recbole_fofa.device.precision import decode, encode, stored_layout
from recbole_fofa.errors import DeviceError

KIND = "payload"
Structure = tuple[int, ...]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class DevicePayload:
    """A user's own blocks.

    Attributes:
        structure: 1 for a kept and 0 for a dropped block, ``L`` numbers.
        tensors: float32 by name; which there are says :func:`payload_shapes`.
    """

    structure: Structure
    tensors: Mapping[str, np.ndarray]

    def to_bytes(self, info: BundleInfo) -> bytes:
        """As a file, in the precision that the device's bundle states."""
        return pack(KIND, _metadata(info, self.structure), encode(self.tensors, info.precision))

    @classmethod
    def from_bytes(cls, data: bytes, info: BundleInfo) -> DevicePayload:
        """From a file, for the device that holds a bundle.

        Raises:
            DeviceError: If it is damaged, of another version, made for another base model, in
                another precision or form, or of a structure that this device cannot hold.
        """
        metadata, stored = unpack(KIND, data)
        structure = metadata.get("structure")
        if not isinstance(structure, str):
            raise DeviceError(f"{KIND}: {structure!r} is no structure")
        if set(structure) - {"0", "1"} or len(structure) != len(info.blocks):
            raise DeviceError(f"{KIND}: '{structure}' is no structure of {len(info.blocks)} blocks")
        kept = tuple(int(bit) for bit in structure)
        expected = _metadata(info, kept)
        for name in expected.keys() | metadata.keys():
            if metadata.get(name) != expected.get(name):
                raise DeviceError(
                    f"{KIND}: {name} is {metadata.get(name)!r}, but this device's bundle has "
                    f"{expected.get(name)!r}: ask the cloud for a payload of this bundle"
                )
        check_allowed(kept, info)
        return cls(kept, decode(stored, payload_shapes(info, kept), info.precision))

    def check(self, info: BundleInfo) -> None:
        """Whether a device of a bundle can hold it.

        Raises:
            DeviceError: If its structure is over the limits, or a tensor is not what it must be.
        """
        check_allowed(self.structure, info)
        found = {name: value.shape for name, value in self.tensors.items()}
        if found != payload_shapes(info, self.structure):
            raise DeviceError(f"{KIND}: its tensors are not those of this device's bundle")


def check_allowed(structure: Structure, info: BundleInfo) -> None:
    """Whether a device of a bundle's profile can hold a structure.

    Raises:
        DeviceError: If not.
    """
    if structure_code(structure) not in info.allowed:
        raise DeviceError(
            f"structure {structure_text(structure)} is over the limits of profile {info.profile}"
        )


def structure_code(structure: Sequence[int]) -> int:
    """A structure as one number: bit ``i`` keeps block ``i``."""
    return sum(int(bit) << index for index, bit in enumerate(structure))


def structure_text(structure: Sequence[int]) -> str:
    """A structure as files and reports show it, such as ``"101"``."""
    return "".join(map(str, structure))


def payload_shapes(info: BundleInfo, structure: Sequence[int]) -> Shapes:
    """Name and shape of each tensor of a structure's payload: ``block_<index>.<name>``, and
    ``output_bias`` and ``repeat_bias`` where the model has them.

    ``dense``: the blocks' tensors themselves. ``delta``: for each block a ``code`` of ``R``
    numbers, and with ``low_rank`` the ``cores``, ``[matrices, R, R]``; nothing without a mapper.
    """
    shapes: Shapes = {"output_bias": (info.output_size,)} if info.output_size else {}
    shapes |= {"repeat_bias": (1,)} if info.seen_length else {}
    rank = info.mapper_rank
    for index in np.flatnonzero(structure).tolist():
        own = info.shapes_of(index)
        if info.payload_form == "dense":
            shapes |= {f"block_{index}.{name}": shape for name, shape in own.items()}
        elif info.mapper_form is not None:
            shapes[f"block_{index}.code"] = (rank,)
            if info.mapper_form == "low_rank":
                shapes[f"block_{index}.cores"] = (len(own) - len(info.coded), rank, rank)
    return shapes


def payload_size(info: BundleInfo, structure: Sequence[int]) -> int:
    """Bytes of a structure's payload; the same for every user."""
    layout = dict(
        entry
        for name, shape in payload_shapes(info, structure).items()
        for entry in stored_layout(name, shape, info.precision)
    )
    return packed_size(KIND, _metadata(info, tuple(structure)), layout)


@dataclass(frozen=True)
class UserNetwork:
    """A user's network as engines run it.

    Attributes:
        kept: Indices of the kept blocks, ascending.
        parameters: The tensors of each of them.
        output_bias: Added to the hidden states, ``[D]``; ``None`` if nothing is.
        repeat_bias: Added to the scores of what the user has had, ``[1]``; ``None`` if nothing is.
        mark: 16 characters that tell the payload from others.
    """

    kept: tuple[int, ...]
    parameters: list[dict[str, np.ndarray]]
    output_bias: np.ndarray | None
    repeat_bias: np.ndarray | None
    mark: str


def user_network(bundle: BaseBundle, payload: DevicePayload) -> UserNetwork:
    """The network that a payload makes of a bundle."""
    kept = tuple(np.flatnonzero(payload.structure).tolist())
    own = payload.tensors
    if bundle.info.payload_form == "dense":
        parameters = [
            {name: own[f"block_{index}.{name}"] for name in bundle.info.blocks[index]}
            for index in kept
        ]
    else:
        parameters = [_changed_base(bundle, payload, index) for index in kept]
    bias, repeat_bias = own.get("output_bias"), own.get("repeat_bias")
    return UserNetwork(kept, parameters, bias, repeat_bias, payload_mark(payload))


def payload_mark(payload: DevicePayload) -> str:
    """16 characters over the structure and all numbers, as the device reads them."""
    digest = hashlib.sha256(structure_text(payload.structure).encode())
    for name in sorted(payload.tensors):
        digest.update(np.ascontiguousarray(payload.tensors[name]).tobytes())
    return digest.hexdigest()[:16]


def block_integers(info: BundleInfo, index: int) -> dict[str, np.ndarray]:
    """Whole numbers that a block takes beside its tensors: the ``dilation`` of a NextItNet's."""
    if info.backbone != "nextitnet":
        return {}
    dilations = info.sizes["dilations"]
    return {"dilation": np.array(dilations[index % len(dilations)], np.int64)}


def _changed_base(bundle: BaseBundle, payload: DevicePayload, index: int) -> dict[str, np.ndarray]:
    """``base + code basis`` for vectors, ``base + left core right`` for low-rank matrices."""
    info = bundle.info
    tensors = dict(bundle.part(f"base.{index}."))
    if info.mapper_form is None:
        return tensors
    factors = bundle.part(f"change.{index if info.parallel_mappers else 0}.")
    shapes = info.shapes_of(index)
    changes = payload.tensors[f"block_{index}.code"] @ factors["basis"]
    ends = np.cumsum([int(np.prod(shapes[name])) for name in info.coded])
    for name, change in zip(info.coded, np.split(changes, ends[:-1]), strict=True):
        tensors[name] = tensors[name] + change.reshape(shapes[name])
    if info.mapper_form == "low_rank":
        matrices = [name for name in shapes if name not in info.coded]
        for name, core in zip(matrices, payload.tensors[f"block_{index}.cores"], strict=True):
            tensors[name] = (
                tensors[name] + factors[f"left.{name}"] @ core @ factors[f"right.{name}"]
            )
    return tensors


def _metadata(info: BundleInfo, structure: Structure) -> dict[str, Any]:
    return {
        "base": info.base,
        "structure": structure_text(structure),
        "form": info.payload_form,
        "precision": info.precision,
    }
