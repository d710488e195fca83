"""The one file format between cloud and device: safetensors, plain metadata, a checksum.

A file is accepted only if it is, byte for byte, what :func:`pack` makes of its contents, so that
not even a changed blank goes unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from recbole_fofa.errors import DeviceError

SCHEMA = "recbole_fofa"
VERSION = 3
_KEY = "fofa"
_LENGTH = struct.Struct("<Q")
_CODES = {"float32": "F32", "float16": "F16", "int8": "I8"}


def pack(kind: str, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> bytes:
    """A file's bytes; the same contents always give the same bytes.

    Args:
        kind: What the file is, such as ``payload``.
        metadata: Values that JSON can hold.
        tensors: float32, float16 or int8 by name.
    """
    arrays = {name: np.ascontiguousarray(value) for name, value in sorted(tensors.items())}
    return save(arrays, metadata={_KEY: _header(kind, metadata, _digest(kind, metadata, arrays))})


def unpack(kind: str, data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metadata and tensors of :func:`pack`.

    Raises:
        DeviceError: If the file is truncated, changed, of another kind or of another version.
    """
    try:
        (size,) = _LENGTH.unpack_from(data)
        header = json.loads(data[_LENGTH.size : _LENGTH.size + size])["__metadata__"][_KEY]
        found = json.loads(header)
        schema, version, its_kind = found["schema"], found["version"], found["kind"]
        metadata = dict(found["metadata"])
    except Exception as error:  # whatever a damaged header may raise
        raise DeviceError(f"{kind}: damaged or not a file of this package: {error}") from None
    if (schema, its_kind) != (SCHEMA, kind):
        raise DeviceError(f"{kind}: this file is a {its_kind} of {schema}")
    if version != VERSION:
        raise DeviceError(
            f"{kind}: schema version {version}, but this runtime reads version {VERSION}: "
            "export it again, or update the runtime"
        )
    try:
        tensors = load(data)
        is_intact = pack(kind, metadata, tensors) == data
    except Exception as error:  # safetensors raises errors of several kinds
        raise DeviceError(f"{kind}: damaged: {error}") from None
    if not is_intact:
        raise DeviceError(f"{kind}: damaged: its checksum does not fit its contents")
    return metadata, tensors


def packed_size(
    kind: str, metadata: Mapping[str, Any], layout: Mapping[str, tuple[str, tuple[int, ...]]]
) -> int:
    """Bytes of a file before its contents exist.

    Args:
        kind: As in :func:`pack`.
        metadata: As in :func:`pack`.
        layout: Type and shape of each tensor, such as ``("float16", (6, 16, 16))``.
    """
    # safetensors puts wide types first and orders by name among equals.
    by_width = sorted(layout.items(), key=lambda it: (-np.dtype(it[1][0]).itemsize, it[0]))
    entries: dict[str, Any] = {"__metadata__": {_KEY: _header(kind, metadata, "0" * 64)}}
    end = 0
    for name, (dtype, shape) in by_width:
        begin, end = end, end + int(np.prod(shape)) * np.dtype(dtype).itemsize
        entries[name] = {
            "dtype": _CODES[dtype],
            "shape": list(shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    return _LENGTH.size + -(-len(text) // 8) * 8 + end


def _header(kind: str, metadata: Mapping[str, Any], checksum: str) -> str:
    return _json(
        {
            "schema": SCHEMA,
            "version": VERSION,
            "kind": kind,
            "metadata": dict(metadata),
            "checksum": checksum,
        }
    )


def _digest(kind: str, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(_json([kind, dict(metadata)]).encode())
    for name, value in tensors.items():
        digest.update(f"{name} {value.dtype} {value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _json(value: Any) -> str:
    # In the order given: blocks' tensors are listed in the order of their factors.
    return json.dumps(value, separators=(",", ":"))
