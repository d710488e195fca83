"""The words of a command line that are about a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from recbole_fofa.config.sources import is_option
from recbole_fofa.errors import ConfigError

_SHORT = {"-m": "model", "-d": "dataset", "--model": "model", "--dataset": "dataset"}


@dataclass
class CommandLine:
    """What the words of a command line say.

    Args:
        model: The model's name, or None.
        dataset: The dataset's name or path, or None.
        config_files: YAML files.
        arguments: All settings as ``--key=value`` words, model and dataset included.
        shows_help: Whether the help was asked for.
        shows_version: Whether the versions were asked for.
    """

    model: str | None = None
    dataset: str | None = None
    config_files: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    shows_help: bool = False
    shows_version: bool = False


def parse_command_line(argv: Sequence[str]) -> CommandLine:
    """Read the words after the program's name.

    Args:
        argv: The words.

    Returns:
        What they say. Settings are not parsed yet: ``FofaConfig`` does that.

    Raises:
        ConfigError: An option lacks its value.
    """
    found = CommandLine()
    words = list(argv)
    while words:
        word = words.pop(0)
        name, equals, text = word.partition("=")
        if word in ("-h", "--help"):
            found.shows_help = True
        elif word == "--version":
            found.shows_version = True
        elif word == "-q":
            found.arguments.append("--quiet=true")
        elif name in _SHORT:
            _take_name(found, _SHORT[name], text if equals else _value(name, words))
        elif name == "--config_files":
            found.config_files += _files(text) if equals else _following_files(words)
        else:
            _take_setting(found, word, words)
    return found


def _take_setting(found: CommandLine, word: str, words: list[str]) -> None:
    found.arguments.append(word)
    # The value of "--key value" goes along, so that it is never read as an option of its own.
    if word.startswith("--") and "=" not in word and words and not is_option(words[0]):
        found.arguments.append(words.pop(0))


def _take_name(found: CommandLine, key: str, text: str) -> None:
    setattr(found, key, text)
    found.arguments.append(f"--{key}={text}")


def _value(name: str, words: list[str]) -> str:
    if not words or is_option(words[0]):
        raise ConfigError(f"{name} needs a value")
    return words.pop(0)


def _following_files(words: list[str]) -> list[str]:
    files = _files(_value("--config_files", words))
    while words and not is_option(words[0]):
        files += _files(words.pop(0))
    return files


def _files(text: str) -> list[str]:
    """File names in a text; blanks part them unless the whole text is a file."""
    return [text] if os.path.isfile(text) else text.split()
