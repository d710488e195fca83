"""Files of names, one a line."""

from __future__ import annotations

from pathlib import Path

from recbole_fofa.errors import ConfigError


def read_lines(option: str, path: str) -> list[str]:
    """The lines that are not blank, of any system's kind.

    Raises:
        ConfigError: If the file that the option names cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{option} {path}: {error}") from None
    return [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
