"""Settings of runs in several processes: what they ask for and what is refused."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from recbole_fofa.config.config import FofaConfig
from recbole_fofa.errors import ConfigError
from recbole_fofa.processes import Launch
from recbole_fofa.quick_start import prepare_training
from recbole_fofa.recommender.forward_ofa import ForwardOFA
from recbole_fofa.trainer.evaluation import own_batches
from recbole_fofa.tuning.search import check_space
from recbole_fofa.tuning.space import Choice


def config(*words: str, **settings: Any) -> FofaConfig:
    return FofaConfig(config_dict=settings, arguments=["--use_gpu=False", *words])


def only_fault(*words: str, **settings: Any) -> str:
    found = FofaConfig(config_dict=settings, arguments=list(words), raise_faults=False)
    (fault,) = found.faults
    return fault


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of the second of two processes."""
    names = {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    for name, value in names.items():
        monkeypatch.setenv(name, str(value))


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], None),
        (["--nproc=1", "--world_size=-1", "--ip=localhost", "--port=5678"], None),
        (["--nproc", "2"], Launch(2, 2)),
        (["--nproc=2", "--port=5678"], Launch(2, 2, port=5678)),
        (
            ["--nproc=2", "--world_size=4", "--group_offset=2", "--ip=a.b", "--port='29500'"],
            Launch(2, 4, 2, "a.b", 29500),
        ),
        (["--world_size=2", "--ip=a.b", "--port=1"], Launch(1, 2, 0, "a.b", 1)),
    ],
)
def test_recboles_names_say_what_is_started(words: list[str], expected: Launch | None) -> None:
    assert config(*words).launch == expected


def test_how_a_run_was_started_is_no_part_of_what_it_is() -> None:
    assert FofaConfig(config_dict=config("--nproc=2").settings()).launch is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--local_rank=0"], "local_rank follows from how processes are started; leave it out"),
        (["--offset=0"], "offset follows from how processes are started; leave it out"),
        (["--nproc=0"], "nproc must be a whole number of at least 1"),
        (["--nproc=two"], "nproc must be a whole number of at least 1"),
        (["--world_size=0"], "world_size must be a whole number of at least 1, or -1"),
        (["--group_offset=-1"], "group_offset must be a whole number of at least 0"),
        (["--nproc=2", "--port=70000"], "port must be a whole number from 1 to 65535"),
        (["--nproc=2", "--ip=3"], "ip must be text"),
        (["--nproc=2", "--group_offset=1"], "set world_size to at least 3"),
        (["--nproc=2", "--world_size=4"], "set ip and port of the first machine"),
        (["--nproc=2", "--enable_scaler=True"], "enable_scaler: true is not supported"),
        (["--nproc=2", "--model=S3Rec"], "RecBole trains it with its S3RecTrainer"),
        (["--nproc=2", "--model=Pop"], "RecBole trains it with its TraditionalTrainer"),
    ],
)
def test_c10_what_cannot_work_is_one_message(words: list[str], message: str) -> None:
    assert message in only_fault("--use_gpu=False", *words)


def test_recboles_models_with_its_plain_trainer_are_accepted() -> None:
    for model in ("SASRec", "GRU4Rec", "BPR"):
        assert config("--nproc=2", f"--model={model}").launch == Launch(2, 2)


def test_each_process_needs_a_gpu(two_gpus: None) -> None:
    message = "3 processes need a GPU each, but there are 2; start fewer (nproc)"
    assert message in only_fault("--nproc=3")
    assert FofaConfig(arguments=["--nproc=2"]).launch == Launch(2, 2)
    assert FofaConfig(arguments=["--nproc=3", "--use_gpu=False"]).launch == Launch(3, 3)


def test_named_gpus_are_counted(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "2 processes need a GPU each, but there are 1" in only_fault("--nproc=2", "--gpu_id=1")
    assert FofaConfig(arguments=["--nproc=2", "--gpu_id=0,1"]).launch == Launch(2, 2)


def test_a_started_process_has_a_gpu_of_its_own_and_is_silent(
    torchrun: None, two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    found = FofaConfig(config_dict={"log_wandb": True, "nproc": 2})
    assert found.launch is None
    assert found["device"] == torch.device("cuda", 1)
    assert (found["single_spec"], found["local_rank"]) == (True, 1)
    assert (found["log_wandb"], found["show_progress"]) == (False, False)


def test_what_torchrun_has_started_is_not_contradicted(torchrun: None) -> None:
    message = "nproc is 4, but 2 processes were started already (by torchrun"
    assert message in only_fault("--use_gpu=False", "--nproc=4")
    assert "S3RecTrainer" in only_fault("--use_gpu=False", "--model=S3Rec")


def test_only_a_run_starts_processes() -> None:
    with pytest.raises(ConfigError, match="only a run starts processes"):
        prepare_training(config("--nproc=2"))
    with pytest.raises(ConfigError, match="each trial trains in one process"):
        check_space(config("--nproc=2"), {"n_layers": Choice((1, 2))})


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_batch_of_an_evaluation_has_one_process(
    monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    monkeypatch.setattr("recbole_fofa.processes.world_size", lambda: world_size)
    for n_batches in range(8):
        found = []
        for rank in range(world_size):
            monkeypatch.setattr("recbole_fofa.processes.rank", lambda rank=rank: rank)
            found += own_batches(n_batches)
        assert found == list(range(n_batches))


def test_sparse_gradients_of_a_model_of_ones_own_are_for_one_process() -> None:
    own = type("Own", (ForwardOFA,), {"__module__": __name__})
    words = ["--use_gpu=False", "--learner=sparse_adam"]
    assert FofaConfig(own, arguments=words).launch is None
    found = FofaConfig(own, arguments=[*words, "--nproc=2"], raise_faults=False)
    assert found.faults == ["learner sparse_adam is not supported in several processes; use adam"]
