"""Where the files are that come with the package."""

from __future__ import annotations

from pathlib import Path


def properties_folder() -> Path:
    """Folder of this package's YAML files: inside the wheel, beside the package in a checkout."""
    package = Path(__file__).parent
    inside = package / "properties"
    return inside if inside.is_dir() else package.parent / "properties"
