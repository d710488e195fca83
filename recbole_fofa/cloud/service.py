"""The cloud as an object: messages of bytes in, messages of bytes out."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from recbole_fofa.cloud.assemble import assemble, make_bundle
from recbole_fofa.device.bundle_info import BundleInfo
from recbole_fofa.device.uplink import Uplink
from recbole_fofa.device_profile import DeviceProfile
from recbole_fofa.errors import DeviceError
from recbole_fofa.recommender.forward_ofa import ForwardOFA


class CloudService:
    """Holds the hypernetworks; learns nothing of items that a user has seen.

    Args:
        model: The trained model; put into evaluation mode.
        tokens: Token of each row of the item table; row 0 is padding.
    """

    def __init__(self, model: ForwardOFA, tokens: Sequence[str]) -> None:
        self._model = model.eval()
        self._tokens = list(tokens)
        self._classes: dict[str, tuple[BundleInfo, list[int]]] = {}

    def enroll(self, profile: DeviceProfile, items: Sequence[str] | None = None) -> bytes:
        """The bundle of a device class, which is served from now on.

        Args:
            profile: The class.
            items: Tokens of the items to cache; all if not given.

        Raises:
            ConfigError: If nothing fits the profile, or an item is unknown.
        """
        bundle = make_bundle(self._model, profile, self._tokens, items)
        self._classes[profile.name] = bundle.info, self._version()
        return bundle.to_bytes()

    def handle(self, message: bytes) -> bytes:
        """The payload for a device's uplink.

        Raises:
            DeviceError: If the message is damaged, the device's bundle is not of this model, its
                profile is unknown, its structure is over the profile's limits, or the model has
                changed since it was enrolled.
        """
        uplink = Uplink.from_bytes(message)
        if uplink.profile not in self._classes:
            raise DeviceError(
                f"uplink: profile {uplink.profile!r} is not served here: "
                f"{', '.join(self._classes) or 'none'}"
            )
        info, version = self._classes[uplink.profile]
        if uplink.base != info.base:
            raise DeviceError(
                f"uplink: the device's bundle was made from model {uplink.base}, this is "
                f"{info.base}: send the device a new bundle"
            )
        if version != self._version():
            raise DeviceError(
                f"the model has changed since profile {info.profile} was enrolled: enroll it "
                "again, and send its devices the new bundle"
            )
        if len(uplink.structure) != len(info.blocks):
            raise DeviceError(f"uplink: {len(uplink.structure)} blocks in place of the model's")
        interest = None
        if info.mapper_form is not None:
            interest = torch.from_numpy(uplink.interest).to(self._model.device)
            if len(interest) != self._model.settings.hidden_size:
                raise DeviceError(f"uplink: an interest of {len(interest)} numbers")
        return assemble(self._model, info, uplink.structure, interest).to_bytes(info)

    def _version(self) -> list[int]:
        """Changes with each write to a parameter; costs no pass over their values."""
        states = [int(self._model.keep_all), int(self._model.share_base)]
        return [*states, *(parameter._version for parameter in self._model.parameters())]
