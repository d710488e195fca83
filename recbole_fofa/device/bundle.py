"""What a device holds once, whoever uses it: embeddings, extractors, shared parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from recbole_fofa.device.bundle_checks import bundle_faults
from recbole_fofa.device.bundle_info import BundleInfo
from recbole_fofa.device.codec import pack, packed_size, unpack
from recbole_fofa.errors import DeviceError

KIND = "base"


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
