"""How much is computed at once: a core has small caches, a GPU waits for each small piece."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def of_device(sizes: Mapping[str, int], device: torch.device) -> int:
    """The size that suits a device: that of ``cpu``, or that of ``other``."""
    return sizes["cpu" if device.type == "cpu" else "other"]
