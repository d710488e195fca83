"""Whether a bundle is one that this runtime can use: what a checksum cannot tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

import numpy as np

from recbole_fofa.device.bundle_info import BundleInfo, PayloadForm
from recbole_fofa.device.numpy_backbones import ACTIVATIONS, NUMPY_BACKBONES
from recbole_fofa.device.precision import Precision

Shapes = dict[str, tuple[int, ...]]
_CHOICES: dict[str, tuple[Any, ...]] = {
    "backbone": tuple(NUMPY_BACKBONES),
    "mapper_form": (None, "full", "residual", "low_rank"),
    "payload_form": get_args(PayloadForm),
    "precision": get_args(Precision),
}


def bundle_faults(info: BundleInfo, tensors: Mapping[str, np.ndarray]) -> list[str]:
    """All that is wrong with a description and its tensors; may raise where a type is wrong."""
    return (
        list(_faults_of_types(info))
        or list(_faults_of_values(info))
        or list(_faults_of_tensors(info, tensors))
    )


def _faults_of_types(info: BundleInfo) -> Iterator[str]:
    kinds = {str: str, bool: bool, int: int, list[int]: list, list[str]: list}
    for name, hint in get_type_hints(type(info)).items():
        kind = kinds.get(hint)
        if kind is not None and type(getattr(info, name)) is not kind:
            yield f"{name} is a {type(getattr(info, name)).__name__}, not a {kind.__name__}"
    for name, choices in _CHOICES.items():
        if getattr(info, name) not in choices:
            yield f"{name} is {getattr(info, name)!r}, known are {choices}"


def _faults_of_values(info: BundleInfo) -> Iterator[str]:
    codes, n_structures = info.allowed, 2 ** len(info.blocks)
    is_ascending = sorted(set(codes)) == codes
    if not codes or not is_ascending or codes[0] < 0 or codes[-1] >= n_structures:
        yield f"allowed structures are {codes[:3]} .. of {len(info.blocks)} blocks"
    if len(set(info.items)) != len(info.items) or not all(type(x) is str for x in info.items):
        yield "its items are not different texts"
    for name, kind in NUMPY_BACKBONES[info.backbone].reads.items():
        if type(info.sizes.get(name)) is not kind:
            yield f"the setting {name} is {info.sizes.get(name)!r}, not a {kind.__name__}"
    if info.sizes.get("hidden_act", "gelu") not in ACTIVATIONS:
        yield f"the setting hidden_act is {info.sizes['hidden_act']!r}"
    if min(info.max_length, info.adapt_length) < 1 or info.seen_length < 0:
        yield "lengths must be positive"
    if info.output_size and info.mapper_form is None:
        yield "a bias of the output stage without a mapper"
    if info.budget is not None and not 0 <= float(info.budget) <= 1:
        yield f"budget is {info.budget}"


def _faults_of_tensors(info: BundleInfo, tensors: Mapping[str, np.ndarray]) -> Iterator[str]:
    width = tensors["item_embedding"].shape[1]
    if info.output_size not in (0, width):
        yield f"output_size is {info.output_size}, not 0 or {width}"
    expected = {"item_embedding": (len(info.items), width), **_shapes(info, width)}
    for name in sorted(expected.keys() | tensors.keys()):
        have = tensors[name].shape if name in tensors else None
        if have != expected.get(name):
            yield f"tensor {name} is {have}, expected {expected.get(name)}"
        elif tensors[name].dtype != np.float32 or not np.isfinite(tensors[name]).all():
            yield f"tensor {name} is not of finite float32"


def _shapes(info: BundleInfo, width: int) -> Shapes:
    own = NUMPY_BACKBONES[info.backbone].own_shapes(width, info.max_length)
    shapes: Shapes = {f"backbone.{name}": shape for name, shape in own.items()}
    n_blocks = len(info.blocks)
    if info.has_controller or info.structure_guided:
        shapes |= _extractor("controller.extractor", width)
        shapes |= _dense("controller.head", 2 * n_blocks, width)
        shapes |= _dense("controller.policy_projection", width, 2 * n_blocks)
        if info.budget is not None:
            shapes |= _dense("controller.budget_embedding", width, 1)
    if info.mapper_form is not None:
        shapes |= _extractor("extractor", width)
    if info.payload_form == "delta":
        for index in range(n_blocks):
            for name, shape in info.shapes_of(index).items():
                shapes[f"base.{index}.{name}"] = shape
        for index in range(n_blocks if info.parallel_mappers else 1):
            if info.mapper_form is not None:
                shapes |= _factors(info, index)
    return shapes


def _factors(info: BundleInfo, index: int) -> Shapes:
    own, rank = info.shapes_of(index), info.mapper_rank
    coded = sum(int(np.prod(own[name])) for name in info.coded)
    shapes: Shapes = {f"change.{index}.basis": (rank, coded)}
    if info.mapper_form == "low_rank":
        for name in own.keys() - set(info.coded):
            rows, columns = own[name]
            shapes[f"change.{index}.left.{name}"] = (rows, rank)
            shapes[f"change.{index}.right.{name}"] = (rank, columns)
    return shapes


def _extractor(prefix: str, width: int) -> Shapes:
    norm = {f"{prefix}.norm.weight": (width,), f"{prefix}.norm.bias": (width,)}
    return {**_dense(f"{prefix}.read", 2 * width, width), **norm}


def _dense(prefix: str, rows: int, columns: int) -> Shapes:
    return {f"{prefix}.weight": (rows, columns), f"{prefix}.bias": (rows,)}
