"""On-device networks. A new one is a file here and a line in ``BACKBONES``."""

from __future__ import annotations

from recbole_fofa.model.backbone.base import Backbone, BlockSpec, ParameterSpec
from recbole_fofa.model.backbone.sasrec import SASRecBackbone

BACKBONES: dict[str, type[SASRecBackbone]] = {"sasrec": SASRecBackbone}

__all__ = [
    "BACKBONES",
    "Backbone",
    "BlockSpec",
    "ParameterSpec",
    "SASRecBackbone",
]
