"""What a device holds once, whoever uses it: embeddings, extractors, shared parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from recbole_fofa.device.bundle_checks import bundle_faults
from recbole_fofa.device.codec import pack, packed_size, unpack
from recbole_fofa.device.precision import Precision
from recbole_fofa.errors import DeviceError

PayloadForm = Literal["delta", "dense"]
KIND = "base"


@dataclass(frozen=True)
class BundleInfo:
    """What the tensors of a bundle mean.

    Attributes:
        base: Fingerprint of the cloud's model.
        profile: Name of the device profile.
        backbone: Name of the on-device network.
        sizes: The backbone's settings by name.
        blocks: For each block the shape of each of its tensors.
        max_length: Newest items that a request reads, ``T``.
        adapt_length: Newest items that adaptation reads.
        allowed: Codes of the structures that fit the profile (bit ``i`` keeps block ``i``).
        has_controller: Whether the controller chooses; else the largest allowed structure is kept.
        budget: Share of the blocks' MACs that a budget-aware controller is told, or ``None``.
        structure_guided: Whether the controller's structural vector starts the mapper's extractor.
        mapper_form: ``full``, ``residual``, ``low_rank``, or ``None`` without a mapper.
        mapper_rank: ``R``; 0 without a mapper.
        coded: Names of the tensors that change by a code times a basis, in the basis' order.
        parallel_mappers: Whether each block has factors of its own.
        payload_form: Whether payloads are changes of the base or whole tensors.
        precision: Of the payloads.
        items: Tokens of the cached items; ``item_embedding`` has a row for each.
    """

    base: str
    profile: str
    backbone: str
    sizes: dict[str, Any]
    blocks: list[dict[str, list[int]]]
    max_length: int
    adapt_length: int
    allowed: list[int]
    has_controller: bool
    budget: float | None
    structure_guided: bool
    mapper_form: str | None
    mapper_rank: int
    coded: list[str]
    parallel_mappers: bool
    payload_form: PayloadForm
    precision: Precision
    items: list[str]

    def shapes_of(self, block: int) -> dict[str, tuple[int, ...]]:
        """Shape of each of a block's tensors."""
        return {name: tuple(shape) for name, shape in self.blocks[block].items()}


def bundle_size(info: BundleInfo, tensors: Mapping[str, np.ndarray]) -> int:
    """Bytes of a bundle's file, if every structure were allowed."""
    every = replace(info, allowed=list(range(2 ** len(info.blocks))))
    layout = {name: (str(value.dtype), value.shape) for name, value in tensors.items()}
    return packed_size(KIND, asdict(every), layout)


@dataclass(frozen=True)
class BaseBundle:
    """A bundle: its description and float32 tensors by name.

    The names: ``item_embedding``; ``backbone.*`` of the input and output stage; ``controller.*``;
    ``extractor.*`` of the mapper; for payloads that are changes ``base.<block>.*`` and
    ``change.<block>.*``.
    """

    info: BundleInfo
    tensors: Mapping[str, np.ndarray]
    _parts: dict[str, Mapping[str, np.ndarray]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def part(self, prefix: str) -> Mapping[str, np.ndarray]:
        """The tensors whose names begin so, by the rest of their names; not to be changed."""
        if prefix not in self._parts:
            self._parts[prefix] = {
                name.removeprefix(prefix): value
                for name, value in self.tensors.items()
                if name.startswith(prefix)
            }
        return self._parts[prefix]

    def to_bytes(self) -> bytes:
        """As a file."""
        return pack(KIND, asdict(self.info), self.tensors)

    @classmethod
    def from_bytes(cls, data: bytes) -> BaseBundle:
        """From a file.

        Raises:
            DeviceError: If it is damaged, or of another kind or version.
        """
        metadata, tensors = unpack(KIND, data)
        try:
            info = BundleInfo(**metadata)
            faults = bundle_faults(info, tensors)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DeviceError(f"{KIND}: not a description of a bundle: {error!r}") from None
        if faults:
            raise DeviceError([f"{KIND}: {fault}" for fault in faults])
        return cls(info, tensors)
