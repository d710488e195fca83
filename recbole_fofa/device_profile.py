"""Device classes and their limits (``properties/device/*.yaml``)."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from recbole_fofa.errors import ConfigError
from recbole_fofa.packaged import properties_folder

SHIPPED = properties_folder() / "device"


class DeviceProfile(BaseModel):
    """What one class of devices can hold and spend."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field(
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="Letters, digits and _.-; it travels in every message of the device.",
    )
    max_macs: PositiveInt | None = Field(
        None, description="MACs of one request at full length, without scores; unset: no limit."
    )
    max_payload_bytes: PositiveInt | None = Field(
        None, description="Bytes of a user's payload; unset: no limit."
    )
    max_memory_bytes: PositiveInt | None = Field(
        None, description="Bytes of bundle, assembled blocks and states; unset: no limit."
    )
    precision: Literal["fp32", "fp16", "int8"] = Field(
        "fp32", description="In which a payload's numbers travel."
    )
    payload: Literal["delta", "dense"] = Field(
        "delta", description="Changes of a base that the device holds, or whole tensors."
    )


def shipped_profiles() -> list[str]:
    """Names of the profiles that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_profile(name_or_path: str) -> DeviceProfile:
    """A shipped profile by its name, or one of your own by its file.

    Raises:
        ConfigError: If there is none, or with every key that is wrong.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = SHIPPED / f"{name_or_path}.yaml"
    if not path.is_file():
        names = shipped_profiles()
        near = difflib.get_close_matches(name_or_path, names, 1)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        raise ConfigError(
            f"no device profile '{name_or_path}'{hint} Shipped: {', '.join(names)}; or the path "
            "of a .yaml file of your own"
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"device profile {path}: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"device profile {path}: expected 'key: value' lines")
    try:
        return DeviceProfile(**{"name": path.stem, **values})
    except ValidationError as error:
        raise ConfigError(
            [
                f"device profile {path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}; "
                f"known keys: {', '.join(DeviceProfile.model_fields)}"
                for fault in error.errors()
            ]
        ) from None
