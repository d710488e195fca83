"""Settings: how they are written, where they come from, which of them wins."""

from __future__ import annotations

import copy
import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from configs import (
    config,
    faults,
    one_fault,
    write_yaml,
)
from data_files import write_tiny
from hypothesis import given
from hypothesis import strategies as st

from recbole_fofa.config.config import FofaConfig
from recbole_fofa.config.sources import parse_value, read_arguments, read_file
from recbole_fofa.errors import ConfigError

pytestmark = pytest.mark.usefixtures("stand_ins")


# Parsing


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-1", -1),
        ("1_000", 1000),
        (".5", 0.5),
        (".inf", float("inf")),
        ("true", True),
        ("FALSE", False),
        ("None", None),
        ("~", None),
        ("null", None),
        ("[5, 10]", [5, 10]),
        ("5,10", [5, 10]),
        ("[Recall, NDCG]", ["Recall", "NDCG"]),
        ("{'a': (1, 2)}", {"a": [1, 2]}),
        ("{LS: valid_and_test}", {"LS": "valid_and_test"}),
        ("'quoted'", "quoted"),
    ],
)
def test_parse_value_reads(text: str, value: Any) -> None:
    found = parse_value("key", text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    ["1-2", "1/0", "os.sep", "key", "yes", "on", "No", "2020-01-01", "12:30", "007", "none", "a: b"]
    + ["- a", "# x", "", " ", "\t", "[0,inf)", "1+2j", "b'x'", "{1, 2}", "b=c", "=", "*a", "&a"]
    + ["__import__('os').getcwd()", "!!python/object/apply:os.getcwd []", "9" * 5000, "[" * 5000],
)
def test_parse_value_keeps_other_text(text: str) -> None:
    assert parse_value("key", text) == text


def test_text_settings_are_never_numbers_or_lists() -> None:
    assert parse_value("user_inter_num_interval", "[0,10]") == "[0,10]"
    assert parse_value("dataset", "2024") == "2024"
    assert parse_value("field_separator", "'\\t'") == "\t"
    assert parse_value("output_dir", "None") is None


@given(st.text(max_size=30))
def test_parse_value_never_fails(text: str) -> None:
    assert isinstance(parse_value("key", text), (type(None), bool, int, float, str, list, dict))


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=5,
    )
)
def test_parse_value_reads_back_what_python_prints(value: Any) -> None:
    assert parse_value("key", repr(value)) == value


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,10}", fullmatch=True), st.integers() | st.booleans(), max_size=5
    ),
    st.booleans(),
)
def test_both_forms_of_an_argument_mean_the_same(values: dict[str, Any], equals: bool) -> None:
    words: list[str] = []
    for key, value in values.items():
        words += [f"--{key}={value}"] if equals else [f"--{key}", str(value)]
    assert read_arguments(words) == (values, [])


# Command-line words


def test_c03_both_forms_and_flags() -> None:
    words = ["--a=b=c", "--b", "0.5", "--c", "--d=", "--e", "-1", "--f"]
    values = {"a": "b=c", "b": 0.5, "c": True, "d": "", "e": -1, "f": True}
    assert read_arguments(words) == (values, [])


def test_c03_words_that_belong_to_no_key_are_named() -> None:
    found = faults("-config_files", "a.yaml", "--epochs", "1")
    assert found == [
        "unexpected word '-config_files' on the command line: write --key=value",
        "unexpected word 'a.yaml' on the command line: write --key=value",
    ]


def test_a_key_twice_is_a_fault_unless_the_values_agree() -> None:
    assert config("--epochs=1", "--epochs", "1")["epochs"] == 1
    message = one_fault("--epochs=1", "--epochs=2")
    assert message == "epochs is given twice on the command line: '1' and '2'"


def test_sys_argv_is_not_read() -> None:
    found = config()
    assert found["epochs"] == 20 and found["tb"] is None


# Files


def test_missing_config_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"not found: {tmp_path / 'no.yaml'}")):
        FofaConfig(config_file_list=["no.yaml"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n- 2\n", "must hold lines 'key: value', but is a list"),
        ("epochs: 1\nseed: [1\n", "line 3: expected"),
        ("epochs: 1\nepochs: 2\n", "line 2: key 'epochs' is set twice"),
        ("epochs:\t1\n x: 2\n", "line 1"),
        ("1: 2\n", "the key 1 must be text"),
        ("a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    ],
)
def test_malformed_config_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"config file .*a.yaml.*{re.escape(message)}"):
        read_file(file)


def test_config_file_of_other_encodings(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xef\xbb\xbfepochs: 1\r\n")
    assert read_file(file) == {"epochs": 1}
    file.write_bytes(b"epochs: \xff\n")
    with pytest.raises(ConfigError, match=r"a\.yaml is not UTF-8 text"):
        read_file(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_file(tmp_path)


def test_empty_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("# nothing\n", encoding="utf-8")
    assert FofaConfig(config_file_list=str(file))["epochs"] == 20


def test_yaml_reader_of_other_programs_is_left_alone() -> None:
    before = copy.deepcopy(yaml.FullLoader.yaml_implicit_resolvers)
    config()
    assert yaml.FullLoader.yaml_implicit_resolvers == before


# Sources and priority


@pytest.mark.parametrize("key", ["learning_rate", "hidden_size", "eval_step"])
@pytest.mark.parametrize("n_sources", [0, 1, 2, 3])
def test_c03_priority_and_source(tmp_path: Path, key: str, n_sources: int) -> None:
    values = {
        "learning_rate": [0.1, 0.2, 0.3],
        "hidden_size": [2, 4, 6],
        "eval_step": [2, 3, 4],
    }
    given_values = values[key][:n_sources]
    file = write_yaml(tmp_path / "a.yaml", **({key: given_values[0]} if n_sources > 0 else {}))
    found = FofaConfig(
        config_file_list=[str(file)],
        config_dict={key: given_values[1]} if n_sources > 1 else None,
        arguments=[f"--{key}={given_values[2]}"] if n_sources > 2 else None,
    )
    own = "properties/model/ForwardOFA.yaml"
    internal = own if key != "eval_step" else "recbole properties/overall.yaml"
    sources = [internal, f"file {file}", "config_dict", "command line"]
    assert found.sources[key] == sources[n_sources]
    if given_values:
        assert found[key] == given_values[-1]
        assert found.changes()[0].startswith(f"{key} = {given_values[-1]}")


def test_later_files_win_and_the_dict_is_not_changed(tmp_path: Path) -> None:
    files = [write_yaml(tmp_path / f"{n}.yaml", epochs=n) for n in (1, 2)]
    given_dict = {"topk": "[5, 10]", "train_neg_sample_args": {"sample_num": 2}, "loss_type": "BPR"}
    given_dict["train_regime"] = "prefix"
    before = copy.deepcopy(given_dict)
    found = FofaConfig(config_file_list=files, config_dict=given_dict)
    assert (found["epochs"], found["topk"], given_dict) == (2, [5, 10], before)
    assert found["train_neg_sample_args"]["distribution"] == "uniform"


def test_resolved_file_has_value_and_source(tmp_path: Path) -> None:
    found = config("--learning_rate", "0.5", "--gpu_id=")
    path = tmp_path / "made" / "resolved.yaml"
    found.write_resolved(path)
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert values["learning_rate"] == {"value": 0.5, "source": "command line"}
    assert values["hidden_size"]["source"] == "properties/model/ForwardOFA.yaml"
    assert values["quiet"]["source"] == "properties/overall.yaml"
    assert values["device"] == {"value": "cpu", "source": "derived"}
    assert values["dataset"] == {"value": "ml-100k", "source": "default"}
    assert list(values) == sorted(found.final_config_dict)
    assert os.listdir(path.parent) == ["resolved.yaml"]


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "resolved.yaml"
    path.write_text("old", encoding="utf-8")

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        config().write_resolved(path)
    assert os.listdir(tmp_path) == ["resolved.yaml"] and path.read_text() == "old"


def test_setting_in_code_is_noted() -> None:
    found = config()
    found["epochs"] = 3
    assert found.sources["epochs"] == "code" and found["no such key"] is None


def test_settings_build_the_same_config_again(tmp_path: Path) -> None:
    write_tiny(tmp_path / "data")
    first = config(
        "--dataset=tiny", f"--data_path={tmp_path / 'data'}", "--loss_type=BCE", "--n_heads=4"
    )
    again = FofaConfig(config_dict=first.settings())
    assert again.final_config_dict == first.final_config_dict
    assert FofaConfig(config_dict=config().settings()).final_config_dict == (
        config().final_config_dict
    )


def test_copies_and_pickles() -> None:
    found = config("--epochs=3")
    for twin in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):  # noqa: S301
        assert twin["epochs"] == 3 and twin.sources == found.sources


def test_recboles_lists_do_not_grow() -> None:
    from recbole.utils.argument_list import dataset_arguments

    before = list(dataset_arguments)
    config()
    assert dataset_arguments == before
