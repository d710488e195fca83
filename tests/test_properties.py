"""The YAML files in ``properties/`` are readable copies of the schemas in ``settings.py``.

After a change of a schema, ``FOFA_WRITE_PROPERTIES=1 pytest tests/test_properties.py`` writes them
anew.
"""

from __future__ import annotations

import os
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from recbole_fofa.config.known_settings import READ_BY_RECBOLE, USELESS, recbole_properties
from recbole_fofa.config.sources import read_file
from recbole_fofa.model.backbone import BACKBONES
from recbole_fofa.packaged import properties_folder
from recbole_fofa.run_settings import RunSettings
from recbole_fofa.settings import DUETSettings, ForwardOFASettings

FILES = [
    ("overall.yaml", RunSettings),
    ("model/ForwardOFA.yaml", ForwardOFASettings),
    ("model/DUET.yaml", DUETSettings),
]


def type_name(annotation: Any) -> str:
    """RecBole's word for the type of a setting."""
    if get_origin(annotation) is Literal:
        return "str"
    if annotation in (bool, int, float, str):
        return str(annotation.__name__)
    if get_origin(annotation) is list:
        return "list"
    return next(type_name(part) for part in get_args(annotation) if part is not NoneType)


def shown(value: Any) -> str:
    if value is None:
        return "~"
    if isinstance(value, float):
        return repr(value)
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()


def expected(schema: type[BaseModel]) -> str:
    """The whole text of a schema's YAML file."""
    lines = []
    for key, info in schema.model_fields.items():
        setting = f"{key}: {shown(info.get_default(call_default_factory=True))}"
        lines.append(f"{setting + ' ':<32}# ({type_name(info.annotation)}) {info.description}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("name", "schema"), FILES, ids=[name for name, _ in FILES])
def test_file_equals_the_schema(name: str, schema: type[BaseModel]) -> None:
    file = properties_folder() / name
    text = expected(schema)
    if os.environ.get("FOFA_WRITE_PROPERTIES") == "1":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    found = file.read_text(encoding="utf-8") if file.is_file() else ""
    assert found == text, f"{file} should be:\n{text}"


@pytest.mark.parametrize(("name", "schema"), FILES, ids=[name for name, _ in FILES])
def test_values_read_back_as_the_defaults(name: str, schema: type[BaseModel]) -> None:
    values = read_file(properties_folder() / name)
    assert values == schema().model_dump()
    # 1e-12 must not come back as text, nor 1.0 as 1.
    assert {k: type(v) for k, v in values.items()} == {
        k: type(v) for k, v in schema().model_dump().items()
    }


def test_each_description_is_one_sentence() -> None:
    for _, schema in FILES:
        for key, info in schema.model_fields.items():
            assert info.description and info.description.endswith("."), key


def test_names_of_the_package_do_not_shadow_recboles() -> None:
    own = set(RunSettings.model_fields)
    recboles = set(read_file(recbole_properties() / "overall.yaml"))
    recboles |= set(read_file(recbole_properties() / "dataset" / "sample.yaml"))
    assert not own & (recboles | READ_BY_RECBOLE | set(USELESS))


@pytest.mark.parametrize("file", sorted(recbole_properties().rglob("*.yaml")), ids=lambda f: f.name)
def test_recboles_files_mean_the_same_to_both_readers(file: Any) -> None:
    reader = _recbole_loader()
    theirs = yaml.load(file.read_text(encoding="utf-8"), Loader=reader) or {}
    ours = read_file(file)
    # FEARec's fredom_type: 'None' is the one text that differs; its code asks for other texts only.
    theirs = {key: None if value == "None" else value for key, value in theirs.items()}
    assert ours == theirs


def _recbole_loader() -> Any:
    from recbole.config import Config

    class Loader(yaml.SafeLoader):
        """A private class, because RecBole adds its resolver to the loader it gets."""

    source = Config._build_yaml_loader(None)
    Loader.yaml_implicit_resolvers = {k: list(v) for k, v in source.yaml_implicit_resolvers.items()}
    return Loader


@pytest.mark.parametrize("backbone", BACKBONES)
def test_file_of_a_backbone_holds_settings_that_it_reads(backbone: str) -> None:
    file = properties_folder() / "backbone" / f"{backbone}.yaml"
    values = read_file(file)
    assert values.pop("backbone") == backbone
    assert set(values) <= set(BACKBONES[backbone].setting_names)
    assert ForwardOFASettings(backbone=backbone, **values).backbone == backbone
