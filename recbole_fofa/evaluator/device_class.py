"""Profiles as a model serves them, and the ways of choosing structures on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from recbole_fofa.cloud.assemble import make_bundle, structure_costs
from recbole_fofa.cloud.cost import StructureCost
from recbole_fofa.device.bundle_info import BundleInfo
from recbole_fofa.device_profile import DeviceProfile
from recbole_fofa.errors import ConfigError
from recbole_fofa.evaluator.result import row_label
from recbole_fofa.recommender.forward_ofa import ForwardOFA


@dataclass(frozen=True)
class DeviceClass:
    """A profile as a model serves it.

    Attributes:
        profile: The limits.
        info: Description of the bundle, with the structures that fit.
        costs: Cost of each structure by its code, ``2^L``.
    """

    profile: DeviceProfile
    info: BundleInfo
    costs: list[StructureCost]


def device_classes(
    model: ForwardOFA,
    profiles: Sequence[DeviceProfile],
    tokens: Sequence[str],
    n_candidates: int | None = None,
) -> list[DeviceClass]:
    """Profiles as a model serves them.

    Args:
        model: The model.
        profiles: Device classes.
        tokens: Token of each row of the item table; row 0 is padding.
        n_candidates: Items that a request ranks: a device caches so many and the user's recent
            ones; all items if not given.

    Raises:
        ConfigError: With every profile that no structure fits.
    """
    found, faults = [], []
    cached = None
    if n_candidates is not None:
        n_recent = max(model.settings.adapt_seq_length, model.max_seq_length)
        cached = tokens[1 : 1 + n_candidates + n_recent]
    for profile in profiles:
        try:
            bundle = make_bundle(model, profile, tokens, cached)
        except ConfigError as error:
            faults += error.faults
            continue
        costs = structure_costs(model, bundle.info, bundle.tensors)
        found.append(DeviceClass(profile, bundle.info, costs))
    if faults:
        raise ConfigError(faults)
    return found


def first_blocks(free: DeviceClass, model: ForwardOFA, k: int) -> DeviceClass:
    """Devices that hold the first ``k`` blocks and nothing else."""
    macs = model.network.block_macs
    budget = None if free.info.budget is None else sum(macs[:k]) / sum(macs)
    return replace(free, info=replace(free.info, allowed=[2**k - 1], budget=budget))


@dataclass(frozen=True)
class Way:
    """One row of the report: on which devices, which structure, how old the payload is.

    Attributes:
        name: What chooses the structure.
        device: The device class.
        shown_profile: Its name; ``None`` where all blocks that the row keeps are allowed.
        age: Interactions since the payload was made.
    """

    name: str
    device: DeviceClass
    shown_profile: str | None
    age: int = 0

    @property
    def label(self) -> str:
        """See :func:`row_label`."""
        return row_label(self.name, self.shown_profile)
