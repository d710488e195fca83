"""How numbers travel: float32, float16, or int8 with a scale for each channel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from recbole_fofa.errors import DeviceError

Precision = Literal["fp32", "fp16", "int8"]
SCALE = ".scale"
"""Ending of the name of an int8 tensor's scales, one for each slice along the last axis."""


def stored_layout(
    name: str, shape: tuple[int, ...], precision: Precision
) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    """Name, type and shape of what a tensor is stored as.

    Under ``int8`` vectors are float16: biases, scales and codes are a small share of a payload,
    and have no channels.
    """
    if precision == "int8" and len(shape) > 1:
        yield name, ("int8", shape)
        yield name + SCALE, ("float32", (*shape[:-1], 1))
    else:
        yield name, ("float32" if precision == "fp32" else "float16", shape)


def encode(tensors: Mapping[str, np.ndarray], precision: Precision) -> dict[str, np.ndarray]:
    """float32 tensors as they are stored.

    Raises:
        DeviceError: If a value is not finite, or too large for the precision.
    """
    stored: dict[str, np.ndarray] = {}
    for name, value in tensors.items():
        for stored_name, (dtype, _) in stored_layout(name, value.shape, precision):
            if dtype == "int8":
                scale = np.abs(value).max(-1, keepdims=True) / 127
                scale = np.where(scale > 0, scale, 1).astype(np.float32)
                stored[name], stored[name + SCALE] = _rounded(value / scale), scale
            elif stored_name == name:
                with np.errstate(over="ignore"):  # told below
                    stored[name] = value.astype(dtype)
        if not np.isfinite(stored[name]).all() or not np.isfinite(value).all():
            raise DeviceError(f"{name} holds values that are not finite as {precision}")
    return stored


def decode(
    stored: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], precision: Precision
) -> dict[str, np.ndarray]:
    """float32 tensors from what is stored.

    Args:
        stored: As read from a file.
        shapes: What must be there.
        precision: What the file says it is stored in.

    Raises:
        DeviceError: If a tensor is missing, unknown, of another type or shape, or not finite.
    """
    expected = dict(
        entry for name, shape in shapes.items() for entry in stored_layout(name, shape, precision)
    )
    for name in expected.keys() | stored.keys():
        have = (str(stored[name].dtype), stored[name].shape) if name in stored else None
        if have != expected.get(name):
            raise DeviceError(
                f"tensor {name}: found {_words(have)}, expected {_words(expected.get(name))} "
                f"in {precision}"
            )
        if not np.isfinite(stored[name]).all() or (
            name.endswith(SCALE) and stored[name].min() <= 0
        ):
            raise DeviceError(f"tensor {name} holds numbers that cannot be")
    return {
        name: stored[name].astype(np.float32) * stored.get(name + SCALE, np.float32(1))
        for name in shapes
    }


def _rounded(value: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # NaN is told by the caller
        rounded: np.ndarray = np.rint(value).clip(-127, 127).astype(np.int8)
    return rounded


def _words(layout: tuple[str, tuple[int, ...]] | None) -> str:
    return "none" if layout is None else f"{layout[0]} {list(layout[1])}"
