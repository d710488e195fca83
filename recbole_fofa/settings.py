"""Typed settings of models: the one place of names, defaults and limits.

``properties/model/*.yaml`` are readable copies; a test holds keys, defaults and comments equal to
these schemas. Names that RecBole already has (``hidden_size``, ``n_layers``, ...) keep RecBole's
meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)


class SequenceSettings(BaseModel):
    """Settings that the sequential models of this package share: network and training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # The on-device network (RecBole's SASRec names)
    backbone: Literal["sasrec", "nextitnet", "gru4rec", "fmlprec"] = Field(
        "sasrec", description="Kind of the on-device network."
    )
    n_layers: PositiveInt = Field(2, le=12, description="Number of blocks.")
    n_heads: PositiveInt = Field(2, description="Number of attention heads.")
    hidden_size: PositiveInt = Field(64, description="Width of embeddings and hidden states.")
    inner_size: PositiveInt = Field(256, description="Width inside the feed-forward layers.")
    hidden_dropout_prob: float = Field(0.5, ge=0.0, lt=1.0, description="Dropout of hidden states.")
    attn_dropout_prob: float = Field(
        0.0, ge=0.0, lt=1.0, description="Dropout of attention weights."
    )
    hidden_act: Literal["gelu", "relu", "swish", "tanh", "sigmoid"] = Field(
        "gelu", description="Activation of the feed-forward layers."
    )
    kernel_size: PositiveInt = Field(
        3, description="Number of items that a convolution of nextitnet reads."
    )
    dilations: list[PositiveInt] = Field(
        [1, 4],
        min_length=1,
        description="Distances between these items, block by block, repeated.",
    )
    layer_norm_eps: PositiveFloat = Field(1e-12, description="Added to the variance in LayerNorm.")
    initializer_range: PositiveFloat = Field(
        0.02, description="Standard deviation of the normal initialisation."
    )
    loss_type: Literal["CE", "BCE", "BPR"] = Field(
        "CE", description="Loss: CE over all items, BCE or BPR with sampled negatives."
    )

    # What adaptation reads, and how training is arranged
    adapt_seq_length: PositiveInt = Field(
        50, description="Number of latest items that adaptation reads."
    )
    adapt_chunk: PositiveInt | None = Field(
        256,
        description="Users to adapt to at once in evaluation, 16 times as many on a GPU; unset: "
        "all.",
    )
    train_regime: Literal["session", "prefix"] = Field(
        "session", description="One sample per session window, or one per prefix as in RecBole."
    )
    epochs: NonNegativeInt = Field(
        20, description="The number of training epochs; session windows need few."
    )
    valid_metric: str = Field(
        "NDCG@10",
        description="By which the best epoch is chosen; RecBole's MRR@10 is noisier.",
    )
    stopping_step: NonNegativeInt = Field(
        20, description="Epochs without a better validation after which training stops."
    )
    learning_rate: PositiveFloat = Field(0.002, description="Learning rate of the first epoch.")
    learning_rate_warmup_epochs: NonNegativeFloat = Field(
        2.0, description="First epochs over which the learning rate rises, step by step."
    )
    learning_rate_decay: float = Field(
        0.92, gt=0.0, le=1.0, description="Factor on the learning rate after each epoch."
    )
    train_batch_size: PositiveInt = Field(
        32, description="Number of session windows, or of prefixes, in a batch."
    )
    session_length: PositiveInt = Field(
        20, description="Largest number of targets in a session window."
    )
    session_gap_seconds: PositiveFloat | None = Field(
        None, description="Pause that ends a session; unset: windows are drawn at random."
    )

    @model_validator(mode="after")
    def _heads_fit(self) -> SequenceSettings:
        if self.backbone == "sasrec" and self.hidden_size % self.n_heads:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) must be divisible by n_heads ({self.n_heads})"
            )
        return self


class DUETSettings(SequenceSettings):
    """Settings of the ``DUET`` baseline (``properties/model/DUET.yaml``)."""

    frozen_generator: bool = Field(
        False, description="Whether the generator stays untrained, as in the public code."
    )


class ForwardOFASettings(SequenceSettings):
    """Settings of the ``ForwardOFA`` model (``properties/model/ForwardOFA.yaml``)."""

    # Structure controller
    use_controller: bool = Field(
        True, description="Whether blocks are chosen per user; false: all are kept."
    )
    budget_aware: bool = Field(
        False, description="Whether the controller sees a compute budget and obeys it."
    )
    budget: float | None = Field(
        None, gt=0.0, le=1.0, description="Share of the blocks' MACs that evaluation may use."
    )
    keep_bias: float = Field(1.0, description="Initial margin between the keep and the drop logit.")
    structure_weight: NonNegativeFloat = Field(
        1.0, description="Weight of the structure term in the loss."
    )
    target_keep_rate: float = Field(
        0.75, ge=0.0, le=1.0, description="Mean keep probability aimed at, unless budget_aware."
    )
    temperature_start: PositiveFloat = Field(
        1.0, description="Gumbel-Softmax temperature in the first epoch."
    )
    temperature_end: PositiveFloat = Field(
        0.5, description="Gumbel-Softmax temperature after the decay."
    )
    temperature_epochs: PositiveInt = Field(
        20, description="Number of epochs of the exponential temperature decay."
    )

    # Structure-guided mapper
    use_mapper: bool = Field(True, description="Whether block parameters are generated per user.")
    structure_guided: bool = Field(
        True, description="Whether the structural vector starts the mapper's extractor."
    )
    parallel_mappers: bool = Field(
        True, description="One hypernetwork per block; false: one shared by all blocks."
    )
    mapper_form: Literal["full", "residual", "low_rank"] = Field(
        "low_rank", description="How parameters are generated: whole, or as a change of a base."
    )
    mapper_rank: PositiveInt = Field(
        16, description="Length of the residual code, or rank of the low-rank change."
    )
    mapper_scale: PositiveFloat = Field(
        0.1, le=1.0, description="Initial size of the change relative to initializer_range."
    )
    mapper_dropout: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="Share of the users of a training batch who get the shared base and no output "
        "bias.",
    )
    output_bias: bool = Field(
        True, description="Whether a bias of the output stage is generated per user too."
    )
    repeat_bias: Literal["generated", "shared", "none"] = Field(
        "generated",
        description="What is added to scores of items that a user has had: a number generated "
        "per user, one for all, or nothing.",
    )
    repeats_as_negatives: bool = Field(
        False,
        description="Whether items that a user has had stay negatives of the softmax loss: scores "
        "learn without repeat_bias, and it alone learns from the scores that it changes.",
    )
    calibrate_repeat_bias: bool = Field(
        False,
        description="Whether, after training, the number is added to all users' repeat_bias that "
        "validates best.",
    )
    repeat_seq_length: PositiveInt = Field(
        500, description="Number of latest items that count as had before, for repeat_bias."
    )

    # How its parts are trained
    controller_learning_rate: PositiveFloat | None = Field(
        None, description="That of the controller; unset: learning_rate."
    )
    mapper_learning_rate: PositiveFloat | None = Field(
        None, description="That of the mapper; unset: learning_rate."
    )
    controller_warmup_epochs: NonNegativeInt = Field(
        0, description="First epochs with every block kept and the controller frozen."
    )
    mapper_warmup_epochs: NonNegativeInt = Field(
        0, description="First epochs with one base for all users and the mapper frozen."
    )
    alternate_steps: bool = Field(
        False, description="Whether odd steps train the controller and even steps the rest."
    )
    conflict_every: NonNegativeInt = Field(
        0, description="Steps between two measurements of gradient conflict; 0: none."
    )

    @property
    def has_repeat_bias(self) -> bool:
        """Whether anything is added to scores of items that a user has had."""
        return makes_repeat_bias(self.repeat_bias, self.use_mapper)

    @model_validator(mode="after")
    def _repeat_bias_is_there(self) -> ForwardOFASettings:
        if self.repeats_as_negatives and (self.loss_type != "CE" or not self.has_repeat_bias):
            raise ValueError(
                "repeats_as_negatives is about a repeat_bias in the softmax loss, which has all "
                "items as negatives: set loss_type: CE and repeat_bias: shared, or generated with "
                "use_mapper: true, or repeats_as_negatives: false"
            )
        if self.calibrate_repeat_bias and not self.has_repeat_bias:
            raise ValueError(
                "calibrate_repeat_bias needs a repeat_bias: set it to shared, or to generated with "
                "use_mapper: true"
            )
        return self

    @model_validator(mode="after")
    def _fields_agree(self) -> ForwardOFASettings:
        if self.budget is not None and not self.budget_aware:
            raise ValueError("budget is set, but budget_aware is false: set budget_aware: true")
        if self.budget is not None and self.budget * self.n_layers < 1:
            raise ValueError(
                f"budget ({self.budget}) buys none of the n_layers ({self.n_layers}) blocks: the "
                f"least is {1 / self.n_layers:.4g}"
            )
        if self.budget_aware and not self.use_controller:
            raise ValueError("budget_aware: true needs use_controller: true")
        if not self.use_controller:
            for name in ("alternate_steps", "conflict_every"):
                if getattr(self, name):
                    raise ValueError(f"{name} is about structures: set use_controller: true")
        for name in ("mapper_warmup_epochs", "mapper_dropout"):
            if getattr(self, name) and self.use_mapper and self.mapper_form == "full":
                raise ValueError(
                    f"{name} needs a base that all users share, which mapper_form: full "
                    "does not have: set mapper_form to residual or low_rank"
                )
        if self.temperature_end > self.temperature_start:
            raise ValueError(
                f"temperature_end ({self.temperature_end}) must not exceed "
                f"temperature_start ({self.temperature_start})"
            )
        return self


def makes_repeat_bias(repeat_bias: Any, use_mapper: Any) -> bool:
    """Whether these settings make a repeat bias: without a mapper nobody generates one."""
    return repeat_bias == "shared" or (repeat_bias == "generated" and bool(use_mapper))


def of_older_version(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings with those that came later, as the network was without them."""
    is_ours = "mapper_form" in stored and "repeat_bias" not in stored
    return {**stored, "repeat_bias": "none"} if is_ours else dict(stored)
