"""Settings: sources, parsing, checks, devices, and what is said of each fault."""

from __future__ import annotations

import copy
import os
import pickle
import re
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
import recbole
import torch
import yaml
from data_files import write_inter, write_tiny
from hypothesis import given
from hypothesis import strategies as st
from recbole.model.abstract_recommender import GeneralRecommender, SequentialRecommender
from recbole.utils import InputType

from recbole_fofa.config import FofaConfig
from recbole_fofa.config.known_settings import READ_BY_RECBOLE, USELESS, _common
from recbole_fofa.config.sources import parse_value, read_arguments, read_file
from recbole_fofa.errors import ConfigError
from recbole_fofa.settings import ForwardOFASettings


class ForwardOFA(SequentialRecommender):
    """Stands for the real model: a config needs no more than a name and a type."""


class SASRec(SequentialRecommender):
    """Stands for RecBole's model, whose import takes seconds."""


class BPR(GeneralRecommender):
    """Stands for RecBole's pairwise model."""

    input_type = InputType.PAIRWISE


class DeepFM(GeneralRecommender):
    """Stands for a pointwise model."""

    input_type = InputType.POINTWISE


MODELS = {model.__name__: model for model in (ForwardOFA, SASRec, BPR, DeepFM)}


def get_model(name: str) -> type:
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}")
    return MODELS[name]


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("recbole_fofa.registry")
    module.get_model = get_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prog", "--epochs=77", "--tb=short"])


def config(*words: str, **settings: Any) -> FofaConfig:
    """A config of command-line words and a dict."""
    model = settings.pop("model", None)
    return FofaConfig(model, config_dict=settings, arguments=words)


def faults(*words: str, **settings: Any) -> list[str]:
    model = settings.pop("model", None)
    return FofaConfig(model, config_dict=settings, arguments=words, raise_faults=False).faults


def one_fault(*words: str, **settings: Any) -> str:
    """The message of settings that have exactly one fault."""
    found = faults(*words, **settings)
    assert len(found) == 1, found
    return found[0]


def write_yaml(path: Path, **values: Any) -> Path:
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


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


# Models


def test_defaults_are_forward_ofa_on_ml_100k() -> None:
    found = config()
    assert (found.model, found.dataset) == ("ForwardOFA", "ml-100k")
    assert found["data_path"].endswith("dataset_example/ml-100k")
    assert found.model_settings == ForwardOFASettings()
    assert found.run_settings.mask_history is False


def test_unknown_model_is_reported_with_the_other_faults() -> None:
    assert faults("--model=SASRek", "--epochs=-1", "--whatever=1") == [
        "unknown model 'SASRek'",
        "epochs must be a whole number of at least 0; got -1 (from command line)",
    ]


def test_c07_a_class_of_ones_own_has_its_parents_settings() -> None:
    class MyOFA(SASRec):
        pass

    found = FofaConfig(MyOFA)
    assert (found["hidden_size"], found["loss_type"], found.model) == (64, "CE", "MyOFA")
    assert found.sources["hidden_size"] == "recbole properties/model/SASRec.yaml"

    class MyForwardOFA(ForwardOFA):
        pass

    assert FofaConfig(MyForwardOFA, config_dict={"mapper_rank": 3}).model_settings is not None


def test_c07_settings_that_a_class_reads_or_lists_are_known() -> None:
    class Mine(SASRec):
        def __init__(self, config: Any, dataset: Any) -> None:
            super().__init__(config, dataset)
            self.gate = config["my_gate"]

    assert FofaConfig(Mine, config_dict={"my_gate": 1})["my_gate"] == 1
    assert "unknown setting 'my_door'" in one_fault(model=Mine, my_door=1)
    assert not faults(model=Mine, my_door=1, extra_settings=["my_door"])


def test_a_class_that_is_no_model() -> None:
    assert "model dict is no recommender" in one_fault(model=dict)


def test_model_without_loss_or_input_type() -> None:
    class Bare(SequentialRecommender):
        pass

    with pytest.raises(ConfigError, match="Bare has neither an input_type nor a loss_type"):
        FofaConfig(Bare)
    assert FofaConfig(Bare, config_dict={"loss_type": "BCE"})["MODEL_INPUT_TYPE"] == (
        InputType.PAIRWISE
    )


# Unknown names


def test_c02_misspelt_name_is_offered_its_neighbour() -> None:
    with pytest.raises(
        ConfigError, match="unknown setting 'hiden_size'; did you mean 'hidden_size'"
    ):
        config("--hiden_size=32")
    assert "did you mean 'learning_rate'" in one_fault("--learning-rate=0.1")
    assert "did you mean 'topk'" in one_fault("--topK=5")
    assert "list it in extra_settings" in one_fault("--qqqqqqqq=5")


def test_c02_name_of_another_model() -> None:
    message = one_fault("--mapper_rank=3", "--model=SASRec")
    assert message.startswith("setting 'mapper_rank' belongs to ForwardOFA; the model is SASRec")


@pytest.mark.parametrize("key", sorted(USELESS))
def test_settings_without_effect_are_refused(key: str) -> None:
    assert one_fault(**{key: "x"}).startswith(f"setting {key!r} has no effect: {USELESS[key]}")


def test_keys_that_are_no_text() -> None:
    assert one_fault_of_dict({3: 4}) == "the key 3 of config_dict must be text"


def one_fault_of_dict(values: dict[Any, Any]) -> str:
    (message,) = FofaConfig(config_dict=values, raise_faults=False).faults
    return message


def test_every_name_that_recbole_reads_is_known() -> None:
    """Scan RecBole, but for the models' files, whose names are found through the class."""
    root = Path(recbole.__file__).parent
    pattern = re.compile(r"""config\[\s*["'](\w+)["']\s*\]|config\.get\(\s*["'](\w+)["']""")
    parts = ("config", "data", "trainer", "utils", "evaluator", "sampler", "quick_start")
    read = {
        name
        for part in parts
        for file in (root / part).rglob("*.py")
        for pair in pattern.findall(file.read_text(encoding="utf-8"))
        for name in pair
        if name
    }
    made_by_recbole = set(USELESS)
    assert len(read) > 100
    assert not read - _common() - made_by_recbole
    assert not READ_BY_RECBOLE & made_by_recbole


# Sampling and loss


@pytest.mark.parametrize("model", ["ForwardOFA", "SASRec"])
@pytest.mark.parametrize("loss", ["CE", "BPR", "BCE"])
def test_c01_sampling_follows_from_the_loss(model: str, loss: str) -> None:
    if (model, loss) == ("SASRec", "BCE"):
        pytest.skip("RecBole's SASRec has no BCE; test_losses_of_recboles_models covers it")
    found = config(f"--model={model}", f"--loss_type={loss}")
    samples = found["train_neg_sample_args"]["distribution"]
    assert samples == ("none" if loss == "CE" else "uniform")
    expected = InputType.POINTWISE if loss == "CE" else InputType.PAIRWISE
    assert found["MODEL_INPUT_TYPE"] == expected
    assert found.sources["train_neg_sample_args"] == "derived"


def test_losses_of_recboles_models() -> None:
    class Theirs(SequentialRecommender):
        pass

    Theirs.__module__ = "recbole.model.sequential_recommender.theirs"
    message = "loss_type must be one of CE, BPR for Theirs; got 'BCE' (from config_dict)"
    with pytest.raises(ConfigError, match=re.escape(message)):
        FofaConfig(model=Theirs, config_dict={"loss_type": "BCE"}, raise_faults=False)


def test_c01_contradictions_are_refused() -> None:
    message = one_fault("--train_neg_sample_args={distribution: uniform}")
    assert "loss_type CE scores all items and takes no negatives" in message
    for null in ("None", "null"):
        message = one_fault("--loss_type=BPR", f"--train_neg_sample_args={null}")
        assert message.startswith("loss_type BPR compares with sampled negatives, but")
    assert "model BPR compares" in one_fault("--model=BPR", "--train_neg_sample_args=~")
    assert not faults("--train_neg_sample_args=None")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("5", "must be null or a dict"),
        ("{distribution: normal}", "distribution of train_neg_sample_args must be uniform or"),
        ("{sample_num: 0}", "sample_num of train_neg_sample_args must be a whole number"),
        ("{dynamic: yes}", "dynamic of train_neg_sample_args must be true or false; got 'yes'"),
        ("{sample_num: 5}", "sample_num of train_neg_sample_args must be 1 with train_regime"),
        ("{alpha: 0.5}", "alpha of train_neg_sample_args must be 1.0 with train_regime: session"),
        ("{dynamic: true}", "dynamic of train_neg_sample_args must be False with train_regime"),
        ("{sample_nun: 1}", "unknown key 'sample_nun' in train_neg_sample_args; did you mean"),
    ],
)
def test_values_of_sampling(args: str, message: str) -> None:
    assert message in one_fault("--loss_type=BPR", f"--train_neg_sample_args={args}")


# Limits


@pytest.mark.parametrize(
    "word",
    """learning_rate=0 learning_rate=.inf learning_rate=fast epochs=-1 epochs=1.5 epochs=true
    train_batch_size=0 eval_batch_size=0 eval_step=-1 stopping_step=-1 weight_decay=-0.1
    MAX_ITEM_LIST_LENGTH=0 seed=-1 seed=4294967296 worker=-1 topk=0 topk=[] topk=[5,x] topk=true
    learner=adamm state=loud use_gpu=yes shuffle=1 clip_grad_norm=5 quiet=yes torch_threads=0
    extra_settings=x missing_time=drop n_layers=0 n_layers=true n_layers=2.0 hidden_act=elu
    hidden_dropout_prob=1 keep_bias=.inf mapper_scale=2 loss_type=MSE metrics=[] eval_args=5
    backbone=gru rm_dup_inter=foo user_inter_num_interval=5 clip_grad_norm={max_nrm:5}""".split(),
)
def test_values_out_of_limits_are_named_with_their_source(word: str) -> None:
    key = word.partition("=")[0]
    message = one_fault(f"--{word}")
    assert re.match(rf"{key} must be .*; got .* \(from command line\)", message), message


def test_all_faults_are_raised_at_once_and_fast(tmp_path: Path) -> None:
    config()
    start = time.perf_counter()
    with pytest.raises(ConfigError) as caught:
        config("--hiden_size=1", "--epochs=-1", "--topk=0", "--dataset=nowhere", "stray")
    assert time.perf_counter() - start < 1.0
    assert len(caught.value.faults) == 5
    assert not list(tmp_path.iterdir())


def test_heads_are_reported_once() -> None:
    expected = "hidden_size (64) must be divisible by n_heads (3)"
    assert one_fault("--n_heads=3") == expected
    assert one_fault("--n_heads=3", "--model=SASRec") == expected


def test_rules_of_several_settings() -> None:
    assert "set budget_aware: true" in one_fault("--budget=0.5")
    assert "temperature_end (2.0) must not exceed" in one_fault("--temperature_end=2")
    for setting in ("--alternate_steps=true", "--conflict_every=5"):
        assert "set use_controller: true" in one_fault(setting, "--use_controller=false")
    for setting in ("--mapper_warmup_epochs=1", "--mapper_dropout=0.5"):
        fault = one_fault(setting, "--mapper_form=full")
        assert "set mapper_form to residual or low_rank" in fault
    for setting in ("--loss_type=BPR", "--repeat_bias=none"):
        fault = one_fault(setting, "--repeats_as_negatives=true")
        assert "set loss_type: CE and repeat_bias: generated or shared" in fault


def test_heads_matter_where_there_is_attention_only() -> None:
    for backbone in ("nextitnet", "gru4rec", "fmlprec"):
        found = FofaConfig(arguments=[f"--backbone={backbone}", "--n_heads=3"])
        assert found["backbone"] == backbone


def test_faulty_settings_have_defaults_so_that_data_can_be_checked(tmp_path: Path) -> None:
    write_inter(tmp_path, "other", [["a", "b", 1]], header=("u:token", "item_id:token", "t:float"))
    found = FofaConfig(
        dataset="other",
        config_dict={
            "data_path": str(tmp_path),
            "USER_ID_FIELD": "u",
            "TIME_FIELD": "t",
            "epochs": -1,
            "valid_metric": "X",
            "eval_args": {"order": "XX"},
            "loss_type": "MSE",
        },
        raise_faults=False,
    )
    assert len(found.faults) == 4
    assert (found["epochs"], found["valid_metric"], found["loss_type"]) == (20, "NDCG@10", "CE")
    assert found["load_col"] == {"inter": ["u", "item_id", "t"]}
    assert found["data_path"] == str(tmp_path / "other")


# Evaluation


def test_eval_args_are_merged_layer_by_layer(tmp_path: Path) -> None:
    file = write_yaml(tmp_path / "a.yaml", eval_args={"group_by": "none"})
    found = FofaConfig(
        config_file_list=[file],
        config_dict={"eval_args": {"split": {"LS": "valid_only"}}},
        arguments=["--eval_args={mode: uni100}"],
    )
    assert found["eval_args"] == {
        "split": {"LS": "valid_only"},
        "order": "TO",
        "group_by": "none",
        "mode": {"valid": "uni100", "test": "uni100"},
    }


def test_c05_valid_metric_must_be_computed() -> None:
    message = one_fault("--topk=5")
    assert "valid_metric 'NDCG@10' is not among" in message
    assert message.endswith("add 10 to topk or set valid_metric: NDCG@5")
    assert "add MAP to metrics" in one_fault("--valid_metric=MAP@10")
    assert "set valid_metric: Recall@10" in one_fault("--valid_metric=Recall")
    assert not faults("--topk=5", "--valid_metric=ndcg@5")
    assert not faults("--metrics=[GAUC]", "--valid_metric=GAUC", "--eval_args={mode: uni10}")


def test_metrics() -> None:
    assert "unknown metric 'Recal' in metrics; did you mean 'Recall'" in one_fault(
        "--metrics=Recal,MRR"
    )
    assert config("--metrics=mrr,ndcg")["metrics"] == ["mrr", "ndcg"]
    message = one_fault("--metrics=[MRR, AUC]", "--eval_args={mode: uni10}")
    assert message.startswith("ranking metrics (MRR) and value metrics (AUC) cannot be used")
    words = ["--metrics=[AUC]", "--valid_metric=AUC"]
    assert "mode full of eval_args ranks all items" in one_fault(*words)
    assert not faults(*words, "--eval_args={mode: uni10}")
    assert "set valid_metric: AUC" in one_fault(
        "--metrics=[AUC]", "--valid_metric=AUC@10", "--eval_args={mode: uni10}"
    )


def test_n17_labeled_mode() -> None:
    assert "mode labeled of eval_args is for value metrics" in one_fault(
        "--eval_args={mode: labeled}"
    )
    assert "mode labeled" in one_fault("--model=BPR", "--eval_args={mode: labeled}")
    assert not faults(
        "--model=DeepFM", "--eval_args={mode: labeled}", "--metrics=AUC", "--valid_metric=AUC"
    )


def test_n18_history_is_masked_otherwise() -> None:
    message = one_fault("--repeatable=false")
    assert "set mask_history: true" in message
    assert not faults("--repeatable=false", "--model=BPR")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("{mode: best}", "mode of eval_args must be full, uniN, popN"),
        ("{mode: uni0}", "mode of eval_args must be"),
        ("{mode: {valid: full, tset: full}}", "unknown phase 'tset'"),
        ("{order: XO}", "order of eval_args must be RO or TO; got 'XO'"),
        ("{order: RO}", "order RO .* not possible with a sequential model; set order: TO"),
        ("{group_by: item}", "group_by of eval_args must be user or none; got 'item'"),
        ("{split: {LS: all}}", "split of eval_args must be {LS: one of valid_and_test"),
        ("{split: {XX: 1}}", "split of eval_args must be of kind LS, RS or TS"),
        ("{split: {RS: 0.8}}", "must be {RS: a list of three shares"),
        ("{split: {RS: [0.8, -1]}}", "must be {RS: a list of three shares"),
        ("{split: RS}", "split of eval_args must be one of"),
        ("{spilt: {}}", "unknown key 'spilt' in eval_args; did you mean 'split'"),
    ],
)
def test_eval_args(args: str, message: str) -> None:
    assert re.search(message.replace("{", r"\{"), one_fault(f"--eval_args={args}"))


def test_settings_that_would_have_no_effect(tmp_path: Path) -> None:
    for words, message in (
        (["--mask_history=true", "--eval_args={mode: uni5}"], "works on full rankings"),
        (["--mask_history=true", "--model=BPR"], "is for sequential models"),
        (["--enable_scaler=true", "--clip_grad_norm={max_norm: 5}"], "clips the scaled gradients"),
        (["--save_dataset=true"], "no pickles are written"),
        (["--embedding_size=128"], "unknown setting 'embedding_size'"),
        (["--metrics=[RMSE,5]", "--valid_metric=RMSE"], "unknown metric 5"),
        (["--eval_args={split: {RS: [0.8, 0.2]}}"], "a list of three shares"),
    ):
        assert any(message in fault for fault in faults(*words)), words
    assert not faults("--model=BPR", "--embedding_size=32")


def test_split_files_have_no_sessions(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        write_inter(tmp_path, "cut", [["a", "b", 1]], suffix=f"{part}.inter")
    words = ["--dataset=cut", f"--data_path={tmp_path}", "--benchmark_filename=[train,valid,test]"]
    assert "set train_regime: prefix" in one_fault(*words)
    assert not faults(*words, "--train_regime=prefix")


# Data


def test_dataset_by_name_folder_and_file(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "data")
    words = [
        ["--dataset=tiny", f"--data_path={tmp_path / 'data'}"],
        [f"--dataset={folder}"],
        [f"--dataset={folder / 'tiny.inter'}"],
    ]
    for word in words:
        found = config(*word)
        assert (found["dataset"], found.dataset) == ("tiny", "tiny")
        assert found["data_path"] == str(folder)
        assert found["load_col"] == {"inter": ["user_id", "item_id", "timestamp"]}
        assert found.sources["load_col"] == "derived"
    assert config(*words[0], "--load_col=~")["load_col"] is None
    assert config(*words[0], "--model=BPR")["load_col"] == {"inter": ["user_id", "item_id"]}


def test_dataset_that_is_not_there(tmp_path: Path) -> None:
    assert "'nowhere' not found" in one_fault("--dataset=nowhere")


def test_ml_100k_of_a_data_path_wins(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "data", name="ml-100k")
    assert config(f"--data_path={tmp_path / 'data'}")["data_path"] == str(folder)
    assert config(f"--data_path={tmp_path}")["data_path"].endswith("dataset_example/ml-100k")


# Folders


def test_output_folder_holds_the_checkpoints(tmp_path: Path) -> None:
    assert config()["checkpoint_dir"] == "saved"
    found = config("--output_dir=out")
    assert found["checkpoint_dir"] == os.path.join("out", "saved")
    assert found.sources["checkpoint_dir"] == "derived"
    assert config("--output_dir=out", "--checkpoint_dir=mine")["checkpoint_dir"] == "mine"
    assert config("--output_dir=~/x")["output_dir"] == os.path.expanduser("~/x")
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for key in ("output_dir", "checkpoint_dir"):
        message = one_fault(f"--{key}=file/inside")
        assert message.startswith(f"{key} 'file/inside' cannot be written: ")
        assert message.endswith("file is not a folder")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "no permission to write to" in one_fault("--output_dir=out")


def test_checkpoint_to_resume_from_must_exist(tmp_path: Path) -> None:
    message = one_fault("--resume_from=no.pth")
    assert message == f"resume_from: there is no checkpoint file {tmp_path / 'no.pth'}"
    (tmp_path / "yes.pth").write_text("")
    found = config("--resume_from=yes.pth")
    assert "resume_from" not in found.settings()


# Devices


def test_c09_visible_devices_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    config()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    config("--gpu_id=1,2")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,2"


@pytest.mark.parametrize("word", ["--use_gpu=False", "--gpu_id="])
def test_c09_cpu_run_asks_no_cuda(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    def fail() -> bool:
        raise RuntimeError("CUDA was asked")

    monkeypatch.setattr(torch.cuda, "is_available", fail)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = config(word)
    assert found["device"] == torch.device("cpu")
    assert (found["single_spec"], found["local_rank"]) == (True, 0)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_c09_gpu_is_used_if_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert config()["device"] == torch.device("cuda")


# RecBole's own objections


def test_i06_another_recbole_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recbole, "__version__", "1.0.1")
    with pytest.raises(ConfigError, match=r"recbole 1\.0\.1 is installed.*>=1\.2\.1,<1\.3"):
        config()


def test_an_objection_of_recbole_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole.config import Config

    original = Config._set_default_parameters

    def object_once(self: Config) -> None:
        monkeypatch.setattr(Config, "_set_default_parameters", original)
        raise NotImplementedError("RecBole objects")

    monkeypatch.setattr(Config, "_set_default_parameters", object_once)
    with pytest.raises(ConfigError, match="RecBole objects"):
        config()
