"""From settings to networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_fofa.model.backbone import BACKBONES, Backbone
from recbole_fofa.model.controller import StructureController
from recbole_fofa.model.mapper import StructureGuidedMapper
from recbole_fofa.model.network import AdaptiveNetwork
from recbole_fofa.settings import ForwardOFASettings, SequenceSettings


def build_backbone(settings: SequenceSettings, max_length: int) -> Backbone:
    """The on-device network that the settings describe, without its blocks' parameters."""
    kind = BACKBONES[settings.backbone]
    sizes: Mapping[str, Any] = settings.model_dump()
    return kind(max_length=max_length, **{name: sizes[name] for name in kind.setting_names})


def build_network(settings: ForwardOFASettings, max_length: int) -> AdaptiveNetwork:
    """The network that the settings describe; every ablation is one of them."""
    backbone = build_backbone(settings, max_length)
    controller = mapper = None
    if settings.use_controller:
        controller = StructureController(
            hidden_size=settings.hidden_size,
            n_layers=settings.n_layers,
            horizon=settings.adapt_seq_length,
            keep_bias=settings.keep_bias,
            budget_aware=settings.budget_aware,
            initializer_range=settings.initializer_range,
        )
    if settings.use_mapper:
        mapper = StructureGuidedMapper(
            backbone.blocks,
            hidden_size=settings.hidden_size,
            horizon=settings.adapt_seq_length,
            parallel=settings.parallel_mappers,
            form=settings.mapper_form,
            rank=settings.mapper_rank,
            scale=settings.mapper_scale,
            initializer_range=settings.initializer_range,
            output_bias=settings.output_bias,
            repeat_bias=settings.repeat_bias == "generated",
        )
    return AdaptiveNetwork(
        backbone,
        controller,
        mapper,
        structure_guided=settings.structure_guided,
        initializer_range=settings.initializer_range,
        shared_repeat_bias=settings.repeat_bias == "shared",
    )
