"""Where settings come from: YAML files, dictionaries and command-line words.

No text is ever evaluated as code. The same text means the same in a file and on the command line:
only ``true`` and ``false`` are booleans, a date or ``007`` stays text, and ``1e-3`` is a number.
"""

from __future__ import annotations

import ast
import copy
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from recbole_fofa.errors import ConfigError

COMMAND_LINE = "command line"
CONFIG_DICT = "config_dict"
DERIVED = "derived"

# Values of these are text (or null) even where they look like a number or a list: "[0,10]" is an
# interval and a dataset may be called 2024.
_TEXT_KEYS = frozenset(
    """dataset model data_path checkpoint_dir output_dir resume_from dataset_save_path
    dataloaders_save_path pre_model_path pretrain_path mf_pretrain_path mlp_pretrain_path
    field_separator seq_separator user_inter_num_interval item_inter_num_interval
    entity_kg_num_interval relation_kg_num_interval NEG_PREFIX LIST_SUFFIX encoding wandb_project
    USER_ID_FIELD ITEM_ID_FIELD RATING_FIELD TIME_FIELD LABEL_FIELD ITEM_LIST_LENGTH_FIELD
    POSITION_FIELD HEAD_ENTITY_ID_FIELD TAIL_ENTITY_ID_FIELD RELATION_ID_FIELD
    ENTITY_ID_FIELD""".split()
)
_NULLS = ("None", "~", "null", "Null", "NULL")
_UNREADABLE = (yaml.YAMLError, ValueError, SyntaxError, TypeError, MemoryError, RecursionError)
_NUMBER = re.compile(r"-[0-9.][0-9_.eE+-]*$|-inf$")


class FofaLoader(yaml.SafeLoader):
    """YAML reader with RecBole's floats, without its dates, octals, sexagesimals and yes/no."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping; a key that is written twice is an error, not a silent overwrite."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} is set twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


for _tag, _pattern, _first in (
    ("bool", r"(?i:true|false)", "tTfF"),
    ("null", r"~|null|Null|NULL|None|", "~nN"),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)", "-+0123456789"),
    (
        "float",
        r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    # An empty value ("key:") is null; it has no first character.
    _starts = [*_first, ""] if _tag == "null" else list(_first)
    FofaLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _starts
    )


def read_yaml(text: str) -> Any:
    """Read the one YAML document of a text.

    Args:
        text: The document.

    Returns:
        Its content.

    Raises:
        yaml.YAMLError: The text is not YAML.
    """
    loader = FofaLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def parse_value(key: str, text: str) -> Any:
    """Turn the text of a setting into a value, without running it.

    Args:
        key: Name of the setting; some are text whatever they look like.
        text: What the user wrote.

    Returns:
        A number, text, boolean, None, list or dict; the text itself if it is none of the others.
    """
    word = text.strip()
    if word in _NULLS:
        return None
    value = _parse(word, text)
    if key in _TEXT_KEYS and not isinstance(value, str):
        return text
    return value


def _parse(word: str, text: str) -> Any:
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    try:
        value = plain(ast.literal_eval(word))
    except _UNREADABLE:
        pass
    else:
        return value if isinstance(value, (bool, int, float, str, list, dict)) else text
    try:
        value = read_yaml(word)
    except _UNREADABLE:
        return text
    # Block style ("a: b", "- a") and comments are YAML too, but on one line they are plain text.
    is_flow = word[:1] in ("[", "{")
    return value if isinstance(value, (list, dict)) == is_flow and _changed(value) else text


def _changed(value: Any) -> bool:
    return value is not None and not isinstance(value, str)


def plain(value: Any) -> Any:
    """Copy a value, with tuples as lists and numpy's numbers as Python's.

    Args:
        value: Any value of a setting.

    Returns:
        The copy. Objects of other kinds are copied as they are.
    """
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    return copy.deepcopy(value)


def writable(value: Any) -> Any:
    """Turn a value into what a YAML file can hold: text stands for objects such as a device."""
    value = plain(value)
    if isinstance(value, dict):
        return {str(key): writable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [writable(item) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return str(getattr(value, "name", value))


def read_dict(config_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a dictionary of settings; texts in it are parsed as on the command line."""
    return {
        key: parse_value(key, value) if isinstance(value, str) else plain(value)
        for key, value in config_dict.items()
    }


def read_file(path: str | Path) -> dict[str, Any]:
    """Read one YAML file of settings.

    Args:
        path: The file.

    Returns:
        Its settings; empty for an empty file.

    Raises:
        ConfigError: The file is missing, not readable, not YAML or not a mapping of names.
    """
    try:
        values = read_yaml(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"config file not found: {Path(path).absolute()}") from None
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"config file {path} is not UTF-8 text: {error.reason}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"config file {path}{place}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"config file {path}: {error}") from None
    return _mapping(path, values)


def _mapping(path: str | Path, values: Any) -> dict[str, Any]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise ConfigError(f"config file {path} must hold lines 'key: value', but is a {kind}")
    odd = [key for key in values if not isinstance(key, str)]
    if odd:
        raise ConfigError(f"config file {path}: the key {odd[0]!r} must be text; quote it")
    return values


def read_arguments(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Read command-line words: ``--key=value``, ``--key value`` and ``--flag``.

    Args:
        arguments: The words, without the program's name.

    Returns:
        Parsed values by key, where a flag is True, and the faults: words that belong to no key and
        keys with two different values.
    """
    texts: dict[str, str] = {}
    faults: list[str] = []
    for key, text in _pairs(arguments, faults):
        if texts.setdefault(key, text) != text:
            faults.append(f"{key} is given twice on the command line: {texts[key]!r} and {text!r}")
    return {key: parse_value(key, text) for key, text in texts.items()}, faults


def _pairs(arguments: Sequence[str], faults: list[str]) -> Iterable[tuple[str, str]]:
    words = list(arguments)
    while words:
        word = words.pop(0)
        key, equals, text = word[2:].partition("=")
        if not word.startswith("--") or not key:
            faults.append(f"unexpected word {word!r} on the command line: write --key=value")
        elif equals:
            yield key, text
        elif words and not is_option(words[0]):
            yield key, words.pop(0)
        else:
            yield key, "true"


def is_option(word: str) -> bool:
    """Whether a word starts an option; a negative number does not."""
    return word.startswith("-") and len(word) > 1 and not _NUMBER.match(word)


def is_whole_number(value: Any, lowest: int) -> bool:
    """Whether a value is an ``int`` of at least ``lowest``; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= lowest


def is_finite_number(value: Any) -> bool:
    """Whether a value is an int or float (not a bool), neither infinite nor nan."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)
