"""The description in a bundle: what its tensors mean, and what the device may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from recbole_fofa.device.precision import Precision

PayloadForm = Literal["delta", "dense"]


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
        output_size: Length of the generated bias of the output stage; 0 without.
        seen_length: Newest items of a user whose scores the payload's ``repeat_bias`` is added to;
            0 without one.
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
    output_size: int
    seen_length: int
    payload_form: PayloadForm
    precision: Precision
    items: list[str]

    def shapes_of(self, block: int) -> dict[str, tuple[int, ...]]:
        """Shape of each of a block's tensors."""
        return {name: tuple(shape) for name, shape in self.blocks[block].items()}
