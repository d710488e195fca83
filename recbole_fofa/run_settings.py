"""Typed settings of a run; those of models are in ``settings.py``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt


class RunSettings(BaseModel):
    """Settings of a run, whatever its model (``properties/overall.yaml``)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    output_dir: str | None = Field(
        None, description="Folder of all outputs; unset: saved/, log/, log_tensorboard/ here."
    )
    quiet: bool = Field(False, description="Whether to show warnings, errors and the result only.")
    torch_threads: PositiveInt | None = Field(
        None, description="Number of CPU threads of torch; unset: torch's own choice."
    )
    preset: str | None = Field(
        None,
        description="Shipped settings for a kind of data, in the place of defaults: "
        "short_histories or long_histories.",
    )
    resume_from: str | None = Field(
        None, description="Checkpoint to continue training from, or the folder of a stopped run."
    )
    mask_history: bool = Field(
        False, description="Whether to rank no item that is in the user's history."
    )
    device_eval: bool = Field(
        False, description="Whether to end with the report on device classes."
    )
    device_profiles: list[str] = Field(
        ["low", "mid", "high"],
        min_length=1,
        description="Device classes of the report: shipped ones, or .yaml files.",
    )
    device_candidates: str = Field(
        "full",
        description="What the report ranks: full, uni99, pop99, retrieval100 or a .npy file.",
    )
    missing_time: Literal["error", "previous"] = Field(
        "error", description="Blank timestamps: stop, or take that of the user's row before."
    )
    hooks: list[str] = Field(
        default_factory=list, description="Import paths of hooks of your own, my_module.MyHook."
    )
    extra_settings: list[str] = Field(
        default_factory=list, description="Further keys to accept, for models of your own."
    )
