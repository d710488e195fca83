"""Settings that do not fit: names, values, models, losses, and what is said of each fault."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import recbole
from configs import (
    ForwardOFA,
    SASRec,
    config,
    faults,
    one_fault,
)
from data_files import write_inter
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType

from recbole_fofa.config.config import FofaConfig
from recbole_fofa.config.known_settings import READ_BY_RECBOLE, USELESS, _common
from recbole_fofa.errors import ConfigError
from recbole_fofa.recommender.forward_ofa import ForwardOFA as RealForwardOFA
from recbole_fofa.settings import ForwardOFASettings

pytestmark = pytest.mark.usefixtures("stand_ins")


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
    for setting in ("--loss_type=BPR", "--repeat_bias=none", "--use_mapper=false"):
        fault = one_fault(setting, "--repeats_as_negatives=true")
        assert "set loss_type: CE and repeat_bias: shared, or generated with" in fault
    for setting in ("--repeat_bias=none", "--use_mapper=false"):
        fault = one_fault(setting, "--calibrate_repeat_bias=true")
        assert "calibrate_repeat_bias needs a repeat_bias" in fault
    for setting in ("--eval_step=0", "--eval_step=100"):
        fault = one_fault(setting, "--calibrate_repeat_bias=true")
        assert fault.startswith("calibrate_repeat_bias goes by validation scores")
    fault = one_fault("--budget_aware=true", "--budget=0.3")
    assert fault == "budget (0.3) buys none of the n_layers (2) blocks: the least is 0.5"
    assert "set train_regime: session" in one_fault(
        "--train_regime=prefix", "--session_gap_seconds=60"
    )
    assert "set train_regime: prefix" in one_fault("--transform=mask_itemseq")
    with pytest.raises(ConfigError, match="ForwardOFA has none: set learner: adam"):
        FofaConfig(RealForwardOFA, arguments=["--learner=sparse_adam"])


@pytest.mark.parametrize("interval", ["[5,inf)", "(0,1];[3,4)", "[6,10] ; [15,inf)"])
def test_intervals_are_recboles(interval: str) -> None:
    assert config(user_inter_num_interval=interval)["user_inter_num_interval"] == interval


def test_a_package_that_is_not_installed_is_told_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install wandb" in one_fault("--log_wandb=true")


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
