"""What a device sends up when a session begins: an interest vector and a structure, no items."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from recbole_fofa.device.bundle_info import BundleInfo
from recbole_fofa.device.payload import Structure, structure_code
from recbole_fofa.errors import DeviceError

_MAGIC, _VERSION = b"FOFA", 1
_HEAD = struct.Struct("<4sBBHHH16s")
"""Magic, version, length of the profile's name, blocks, structure, width, fingerprint."""
_CHECK = struct.Struct("<I")


@dataclass(frozen=True)
class Uplink:
    """The message.

    Attributes:
        base: Fingerprint of the model that the device's bundle was made from.
        profile: Name of the device's profile.
        structure: 1 for a kept and 0 for a dropped block, ``L`` numbers.
        interest: Structure-related interest, float32 ``[D]``; empty without a mapper.
    """

    base: str
    profile: str
    structure: Structure
    interest: np.ndarray

    def to_bytes(self) -> bytes:
        """32 bytes, the profile's name, and 4 for each number of the interest."""
        name = self.profile.encode()
        head = _HEAD.pack(
            _MAGIC,
            _VERSION,
            len(name),
            len(self.structure),
            structure_code(self.structure),
            len(self.interest),
            self.base.encode(),
        )
        body = head + name + np.asarray(self.interest, "<f4").tobytes()
        return body + _CHECK.pack(zlib.crc32(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> Uplink:
        """From a message.

        Raises:
            DeviceError: If it is damaged, or of another version.
        """
        try:
            magic, version, n_name, n_blocks, code, width, base = _HEAD.unpack_from(data)
            (check,) = _CHECK.unpack(data[-_CHECK.size :])
        except struct.error:
            raise DeviceError(f"uplink: {len(data)} bytes are no message") from None
        if magic != _MAGIC or check != zlib.crc32(data[: -_CHECK.size]):
            raise DeviceError("uplink: damaged")
        if version != _VERSION:
            raise DeviceError(f"uplink: version {version}, but this cloud reads {_VERSION}")
        begin = _HEAD.size + n_name
        if len(data) != begin + 4 * width + _CHECK.size or code >> n_blocks:
            raise DeviceError("uplink: its parts do not fit its length")
        interest = np.frombuffer(data, "<f4", width, begin).astype(np.float32)
        if not np.isfinite(interest).all():
            raise DeviceError("uplink: the interest is not finite")
        try:
            profile, fingerprint = data[_HEAD.size : begin].decode(), base.decode()
        except UnicodeDecodeError:
            raise DeviceError("uplink: damaged") from None
        structure = tuple(code >> index & 1 for index in range(n_blocks))
        return cls(fingerprint, profile, structure, interest)


def uplink_size(info: BundleInfo, hidden_size: int) -> int:
    """Bytes of a device's message."""
    width = hidden_size if info.mapper_form is not None else 0
    return _HEAD.size + len(info.profile.encode()) + 4 * width + _CHECK.size
