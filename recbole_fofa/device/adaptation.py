"""Controller and extractors in numpy: what a device computes once, when a session begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from recbole_fofa.device.bundle import BaseBundle
from recbole_fofa.device.numpy_backbones import Array, layer_norm, sigmoid
from recbole_fofa.device.payload import Structure

NORM_EPS = 1e-5
"""Of the extractors' LayerNorm: torch's default."""


def adapt(bundle: BaseBundle, behaviour: Array) -> tuple[Structure, Array]:
    """Structure and structure-related interest of one user.

    Args:
        bundle: What the device holds.
        behaviour: Embeddings of the newest items, oldest first, ``[H, D]``.

    Returns:
        1 or 0 for each block, and ``[D]`` numbers, or none without a mapper.
    """
    info = bundle.info
    n_blocks = len(info.blocks)
    margins, vector = np.ones(n_blocks, np.float32), None
    controller = bundle.part("controller.")
    if controller:
        interest = extract(bundle.part("controller.extractor."), behaviour, None)
        logits = _logits(controller, interest, info.budget).reshape(n_blocks, 2)
        if info.has_controller:
            margins = logits[:, 1] - logits[:, 0]
        if info.structure_guided:
            vector = _structural_vector(controller, logits)
    interest = np.empty(0, np.float32)
    if info.mapper_form is not None:
        interest = extract(bundle.part("extractor."), behaviour, vector)
    return select(margins, info.allowed), interest


def select(margins: Array, allowed: Sequence[int]) -> Structure:
    """The allowed structure with the largest sum of margins; the empty one only if it is alone."""
    n_blocks = len(margins)
    codes = np.asarray(allowed)
    structures = codes[:, None] >> np.arange(n_blocks) & 1
    values = np.where(codes > 0, structures.astype(margins.dtype) @ margins, -np.inf)
    return tuple(int(bit) for bit in structures[values.argmax()])


def extract(own: Mapping[str, Array], behaviour: Array, initial_state: Array | None) -> Array:
    """The extractor's formula for one user, ``[H, D]`` to ``[D]``."""
    gate, candidate = np.split(behaviour @ own["read.weight"].T + own["read.bias"], 2, -1)
    forgotten = -np.logaddexp(0, gate)  # log(1 - z)
    from_here = forgotten[::-1].cumsum(0)[::-1]
    weights = sigmoid(gate) * np.exp(from_here - forgotten)
    state = (weights * np.tanh(candidate)).sum(0)
    if initial_state is not None:
        state = state + np.exp(forgotten.sum(0)) * initial_state
    return layer_norm(state, own["norm.weight"], own["norm.bias"], NORM_EPS)


def _logits(own: Mapping[str, Array], interest: Array, budget: float | None) -> Array:
    """Of (drop, keep) for each block, flat, ``[2 L]``."""
    if "budget_embedding.weight" in own:
        share = np.float32(1.0 if budget is None else budget)
        interest = interest + share * own["budget_embedding.weight"][:, 0]
        interest = interest + own["budget_embedding.bias"]
    scaled = interest / np.sqrt(np.float32(len(interest)))
    logits: Array = own["head.weight"] @ scaled + own["head.bias"]
    return logits


def _structural_vector(own: Mapping[str, Array], logits: Array) -> Array:
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    flat = (odds / odds.sum(-1, keepdims=True)).reshape(-1)
    vector: Array = own["policy_projection.weight"] @ flat + own["policy_projection.bias"]
    return vector
