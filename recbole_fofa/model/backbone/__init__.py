"""On-device networks. A new one is a file here and a line in ``BACKBONES``."""

from __future__ import annotations

from recbole_fofa.model.backbone.base import Backbone, BlockSpec, ParameterSpec
from recbole_fofa.model.backbone.fmlprec import FMLPRecBackbone
from recbole_fofa.model.backbone.gru4rec import GRU4RecBackbone
from recbole_fofa.model.backbone.nextitnet import NextItNetBackbone
from recbole_fofa.model.backbone.sasrec import SASRecBackbone

BACKBONES: dict[str, type[Backbone]] = {
    "sasrec": SASRecBackbone,
    "nextitnet": NextItNetBackbone,
    "gru4rec": GRU4RecBackbone,
    "fmlprec": FMLPRecBackbone,
}

__all__ = [
    "BACKBONES",
    "Backbone",
    "BlockSpec",
    "FMLPRecBackbone",
    "GRU4RecBackbone",
    "NextItNetBackbone",
    "ParameterSpec",
    "SASRecBackbone",
]
