"""Shipped settings for a kind of data: where they stand, and that the benchmarks measured them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from configs import ForwardOFA, config, one_fault, write_yaml

from recbole_fofa.config.config import FofaConfig
from recbole_fofa.config.sources import read_file
from recbole_fofa.packaged import properties_folder

ROOT = Path(__file__).parents[1]
FOLDER = properties_folder() / "preset"


@pytest.mark.usefixtures("stand_ins")
def test_a_preset_stands_in_the_place_of_defaults(tmp_path: Path) -> None:
    file = write_yaml(tmp_path / "a.yaml", preset="short_histories", epochs=3)
    found = FofaConfig(config_file_list=[file], arguments=["--train_batch_size=9"])
    label = "properties/preset/short_histories/ForwardOFA.yaml"
    assert (found["session_length"], found.sources["session_length"]) == (5, label)
    assert (found["epochs"], found["train_batch_size"]) == (3, 9)
    assert found.model_settings is not None
    assert found.model_settings.model_dump()["mapper_dropout"] == 0.5
    assert f"preset = 'short_histories' (from file {file}, default None)" in found.changes()


@pytest.mark.usefixtures("stand_ins")
def test_what_a_preset_has_set_is_kept_without_it() -> None:
    """A checkpoint must not change with the shipped files."""
    kept = config("--preset=short_histories").settings()
    assert "preset" not in kept and kept["session_length"] == 5
    assert FofaConfig(config_dict=kept)["session_length"] == 5


@pytest.mark.usefixtures("stand_ins")
def test_a_model_of_ones_own_has_its_parents_presets() -> None:
    own = type("MyOFA", (ForwardOFA,), {"__doc__": "A user's model."})
    assert config(model=own, preset="long_histories")["adapt_seq_length"] == 200


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize(
    ("model", "preset", "message"),
    [
        (
            "ForwardOFA",
            "shrt_histories",
            "preset: ForwardOFA has none that is called 'shrt_histories'; did you mean "
            "'short_histories'?",
        ),
        (
            "ForwardOFA",
            "../model",
            "preset: ForwardOFA has none that is called '../model'; there are long_histories and "
            "short_histories",
        ),
        ("SASRec", "short_histories", "preset: SASRec has none; leave it out"),
        ("ForwardOFA", ["short_histories"], "preset must be text; got ['short_histories']"),
    ],
)
def test_there_is_no_such_preset(model: str, preset: object, message: str) -> None:
    assert one_fault(model=model, preset=preset).startswith(message)


MEASURED = [
    ("short_histories", "ForwardOFA", "amazon", "ForwardOFA, input 20"),
    ("short_histories", "DUET", "amazon", "DUET"),
    ("long_histories", "ForwardOFA", "ml-1m", "ForwardOFA, input 20, adapts on 200"),
    ("long_histories", "DUET", "ml-1m", "DUET, input 20, adapts on 200"),
]


@pytest.mark.parametrize(("preset", "model", "plan", "row"), MEASURED)
def test_the_benchmarks_measure_the_presets(preset: str, model: str, plan: str, row: str) -> None:
    """With the defaults below, a preset makes the settings of a row of the head-to-head."""
    found = yaml.safe_load((ROOT / "benchmarks" / "plans" / f"{plan}.yaml").read_text())
    measured = {**found["common"], **found["models"][row]}
    assert measured.pop("model") == model
    own = read_file(FOLDER / preset / f"{model}.yaml")
    shipped = {**read_file(properties_folder() / "model" / f"{model}.yaml"), **own}
    assert {key: shipped[key] for key in measured} == measured
    assert set(own) <= set(measured)


def test_each_preset_is_measured() -> None:
    found = {(file.parent.name, file.stem) for file in FOLDER.rglob("*.yaml")}
    assert found == {(preset, model) for preset, model, *_ in MEASURED}
