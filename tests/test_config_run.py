"""Settings of a run: evaluation, data, folders, devices."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import recbole
import torch
from configs import (
    config,
    faults,
    one_fault,
    write_yaml,
)
from data_files import write_inter, write_tiny

from recbole_fofa.config.config import FofaConfig
from recbole_fofa.errors import ConfigError

pytestmark = pytest.mark.usefixtures("stand_ins")


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


def split_files(folder: Path) -> list[str]:
    """Files split beforehand, and the words that name them."""
    for part in ("train", "valid", "test"):
        write_inter(folder, "cut", [["a", "b", 1]], suffix=f"{part}.inter")
    return ["--dataset=cut", f"--data_path={folder}", "--benchmark_filename=[train,valid,test]"]


def test_split_files_have_no_sessions(tmp_path: Path) -> None:
    words = split_files(tmp_path)
    assert "set train_regime: prefix" in one_fault(*words)
    assert not faults(*words, "--train_regime=prefix")


def test_rows_of_split_files_hold_no_more_than_the_input(tmp_path: Path) -> None:
    """What counts as had before is then the same in training, evaluation and lists."""
    words = split_files(tmp_path) + ["--train_regime=prefix", "--MAX_ITEM_LIST_LENGTH=30"]
    assert config(*words)["repeat_seq_length"] == 30
    assert config(*words, "--repeat_seq_length=30")["repeat_seq_length"] == 30
    fault = one_fault(*words, "--repeat_seq_length=20")
    assert "repeat_seq_length (20) must be MAX_ITEM_LIST_LENGTH (30)" in fault


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
