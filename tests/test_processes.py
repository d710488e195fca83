"""Training in several processes: the same numbers as in one, one writer, and no hanging."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recbole.utils import init_seed
from small import cycle_settings, trainer_of, write_cycle

from recbole_fofa import processes
from recbole_fofa.data.batch_part import BatchPart
from recbole_fofa.errors import ConfigError, ProcessError
from recbole_fofa.processes import Launch, Place
from recbole_fofa.quick_start import run_recbole_fofa
from recbole_fofa.trainer.checkpoint import load_checkpoint
from recbole_fofa.trainer.hooks import Hook, Step
from recbole_fofa.trainer.shared_training import SharedBatch

pytestmark = pytest.mark.xdist_group("processes")  # its models are trained once, in one process

STEADY: dict[str, Any] = {
    "hidden_dropout_prob": 0.0,
    "attn_dropout_prob": 0.0,
    "learning_rate": 0.002,
    "learning_rate_warmup_epochs": 0.0,
}
CASES: dict[str, dict[str, Any]] = {
    "ForwardOFA": {},
    "budgets": {"budget_aware": True, "budget": 0.5},
    "alternating, clipped": {"alternate_steps": True, "clip_grad_norm": {"max_norm": 0.05}},
    # weight decay would show a gradient where one process has none
    "unused parameters": {"structure_guided": False, "weight_decay": 0.1},
    "static": {"use_controller": False, "use_mapper": False},
    "DUET": {"model": "DUET"},
    # 61 windows in batches of 20: the last one leaves a process without a row
    "short last batch": {
        "session_length": 5,
        "session_gap_seconds": 100,
        "batch": 10,
        "budget_aware": True,
        "mapper_dropout": 0.5,
    },
    "pairs": {"loss_type": "BPR", "backbone": "gru4rec", "repeat_bias": "shared"},
    "prefixes, sampled candidates": {
        "train_regime": "prefix",
        "loss_type": "BPR",
        "eval_args": {"mode": "uni5"},
        "calibrate_repeat_bias": True,
    },
    "SASRec": {"model": "SASRec", "loss_type": "CE", "train_neg_sample_args": None},
    "BPR": {"model": "BPR"},
    "everybody drops block 1": {"dropped": 1, "structure_weight": 0.0},
}


MASKED: dict[str, Any] = {"model": "BERT4Rec", "loss_type": "CE", "train_neg_sample_args": None}
"""A model whose transform writes to the config, with a loss that is no mean over rows."""


def train(
    folder: Path, n_processes: int, resume_from: str | None = None, **changes: Any
) -> dict[str, Any]:
    """Train on batches of a fixed size, however many processes share them."""
    settings = {**STEADY, "batch": 16, "dropped": None, "model": None, **changes}
    batch, dropped, model = (settings.pop(key) for key in ("batch", "dropped", "model"))
    init_seed(5, True)
    trainer, (train_data, valid_data, test_data) = trainer_of(
        folder, model, train_batch_size=2 * batch // n_processes, **settings
    )
    if dropped is not None:
        with torch.no_grad():
            trainer.model.network.controller.head.bias[2 * dropped] = 50.0
    if resume_from is not None:
        trainer.resume_checkpoint(resume_from)
    trainer.fit(train_data, valid_data)
    return {
        "losses": list(trainer.train_loss_dict.values()),
        "valid": dict(trainer.best_valid_result),
        "test": trainer.evaluate(test_data),
        "file": str(trainer.last_model_file),
    }


def train_together(folder: str, half: str) -> dict[str, Any]:
    """What each of two processes does: all cases, then runs that stop and go on."""
    torch.set_num_threads(1)
    with processes.group(torch.device("cpu")):
        found = {name: train(Path(folder) / name, 2, **case) for name, case in CASES.items()}
        found["masked"] = train(Path(folder) / "masked", 2, **MASKED)
        found["from one"] = train(Path(folder) / "one", 2, half, epochs=4)
        wet = {"hidden_dropout_prob": 0.5}
        found["straight"] = train(Path(folder) / "straight", 2, epochs=4, **wet)
        stopped = train(Path(folder) / "stopped", 2, epochs=2, **wet)
        found["resumed"] = train(Path(folder) / "stopped", 2, stopped["file"], epochs=4, **wet)
    return found


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of two processes."""
    folder = tmp_path_factory.mktemp("two")
    for name in (*CASES, "masked", "one", "straight", "stopped"):
        write_cycle(folder / name / "data", n_users=61, length=8)
    half = train(folder / "one", 1, epochs=2)
    keywords = {"folder": str(folder), "half": half["file"]}
    found = processes.start(Launch(2, 2), train_together, keywords)
    assert found is not None
    return found


def threads_of_a_group() -> list[str]:
    """Names of the group's threads in this process."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


def optimize_in_a_group() -> list[list[str]]:
    """Threads of the group in it and behind it."""
    with processes.group(torch.device("cpu")):
        weight = torch.nn.Parameter(torch.ones(3))
        weight.sum().backward()
        torch.optim.Adam([weight]).step()
        processes.add_up(weight.detach())
        inside = threads_of_a_group()
    return [inside, threads_of_a_group()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are read from /proc")
def test_a_group_leaves_no_threads() -> None:
    """They would abort the process while its interpreter ends, now and then."""
    found = processes.start(Launch(2, 2), optimize_in_a_group, {})
    assert found is not None
    inside, behind = found
    assert inside and not behind


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-5)
    assert found["valid"] == pytest.approx(expected["valid"], abs=1e-6)
    assert found["test"] == pytest.approx(expected["test"], abs=1e-6)
    state = load_checkpoint(found["file"])["state_dict"]
    for name, value in load_checkpoint(expected["file"])["state_dict"].items():
        if name.endswith("key_bias"):
            continue  # softmax ignores it: its gradient is rounding alone, which Adam makes large
        assert torch.allclose(state[name], value, rtol=0, atol=1e-5), name


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one(tmp_path: Path, together: dict[str, Any], name: str) -> None:
    write_cycle(tmp_path / "data", n_users=61, length=8)
    assert_same(together[name], train(tmp_path, 1, **CASES[name]))


def test_a_mean_over_masked_places_is_near(tmp_path: Path, together: dict[str, Any]) -> None:
    write_cycle(tmp_path / "data", n_users=61, length=8)
    alone = train(tmp_path, 1, **MASKED)
    assert together["masked"]["losses"] == pytest.approx(alone["losses"], rel=3e-3)


def test_runs_go_on_in_another_number_of_processes(
    tmp_path: Path, together: dict[str, Any]
) -> None:
    write_cycle(tmp_path / "data", n_users=61, length=8)
    straight = train(tmp_path, 1, epochs=4)
    later = {**straight, "losses": straight["losses"][2:]}
    assert_same(together["from one"], later)  # begun by one, ended by two
    begun = together["ForwardOFA"]["file"]  # begun by two, ended by one
    assert_same(train(tmp_path, 1, begun, epochs=4), later)


def test_two_processes_resume_bit_for_bit(together: dict[str, Any]) -> None:
    straight, resumed = together["straight"], together["resumed"]
    assert resumed["test"] == straight["test"]
    expected = load_checkpoint(straight["file"])["state_dict"]
    for name, value in load_checkpoint(resumed["file"])["state_dict"].items():
        assert torch.equal(value, expected[name]), name


@given(n_rows=st.integers(1, 9), world_size=st.integers(1, 5), data=st.data())
def test_parts_of_a_batch_are_the_batch(n_rows: int, world_size: int, data: st.DataObject) -> None:
    counts = st.lists(st.integers(1, 4), min_size=n_rows, max_size=n_rows)
    n_targets = np.array(data.draw(counts))
    parts = [BatchPart.of(Place(rank, 0, world_size), n_targets) for rank in range(world_size)]
    own = [part for part in parts if part.row_share]
    idle = [part for part in parts if not part.row_share]
    assert sorted(row for part in own for row in part.rows) == list(range(n_rows))
    assert sum(part.row_share for part in parts) == pytest.approx(1.0)
    assert sum(part.target_share for part in parts) == pytest.approx(1.0)
    assert all(len(part.rows) == 1 and part.target_share == 0 for part in idle)


def test_a_row_that_only_fills_counts_nowhere() -> None:
    idle = BatchPart.of(Place(2, 2, 3), np.array([4, 1]))
    batch, one = SharedBatch(idle, torch.Generator()), torch.ones(())
    for value in (batch.sum(one), batch.mean_over_rows(one), batch.mean_over_targets(one)):
        assert value.item() == 0.0


# Through the public entry


def entry_settings(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return cycle_settings(tmp_path, torch_threads=1, train_batch_size=16, **changes)


def assert_written_once(folder: Path, n_epochs: int) -> None:
    saved = folder / "saved"
    kinds = [path.name.split(".", 1)[1] for path in saved.iterdir() if path.is_file()]
    assert sorted(kinds) == ["config.yaml", "epochs.jsonl", "pth", "pth"]
    assert len([path for path in saved.iterdir() if path.is_dir()]) == 1  # the bundle
    (record,) = saved.glob("*.epochs.jsonl")
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [(line["epoch"], line["phase"]) for line in lines] == [
        (epoch, phase) for epoch in range(n_epochs) for phase in ("train", "valid")
    ]
    assert len(list((folder / "log").rglob("*.log"))) == 1
    assert len(list((folder / "log_tensorboard").iterdir())) == 1


@pytest.mark.slow
def test_nproc_starts_processes_and_one_of_them_writes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = entry_settings(tmp_path, nproc=2, quiet=False, show_progress=False)
    result = run_recbole_fofa(config_dict=settings)
    assert_written_once(tmp_path / "out", n_epochs=2)
    written = json.loads((tmp_path / "out" / "result.json").read_text())
    assert written["test_result"] == result["test_result"]
    assert written["structures"]["n_users"] == 60
    assert capfd.readouterr().err.count("best valid") == 1
    (best,) = (tmp_path / "out" / "saved").glob("*[0-9].pth")
    assert "nproc" not in load_checkpoint(best)["config"]


class Dies(Hook):
    """Ends the second process without a word."""

    def on_step_end(self, trainer: Any, step: Step) -> None:
        if processes.rank() == 1 and step.epoch == 1:
            os._exit(7)


class Complains(Hook):
    """Raises an error in the second process alone."""

    def on_epoch_start(self, trainer: Any, epoch: int) -> None:
        if processes.rank() == 1:
            raise ConfigError("rank 1 is not content")


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others(tmp_path: Path) -> None:
    settings = entry_settings(tmp_path, nproc=2, hooks=["test_processes.Dies"])
    with pytest.raises(ProcessError, match=r"process 1 of 2 was ended by exit code 7"):
        run_recbole_fofa(config_dict=settings)


@pytest.mark.slow
def test_an_error_of_one_process_is_the_error_of_the_run(tmp_path: Path) -> None:
    settings = entry_settings(tmp_path, nproc=2, hooks=["test_processes.Complains"])
    with pytest.raises(ConfigError, match="rank 1 is not content"):
        run_recbole_fofa(config_dict=settings)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "nproc"])
def test_both_launchers_end_with_the_result_of_one_process(tmp_path: Path, launcher: str) -> None:
    settings = {**entry_settings(tmp_path, epochs=1), **STEADY}
    alone = run_recbole_fofa(config_dict={**settings, "train_batch_size": 32})
    settings["output_dir"] = str(tmp_path / "two")
    words = [f"--{key}={value}" for key, value in settings.items()]
    script = str(Path(__file__).parent.parent / "run_recbole_fofa.py")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", script]
    command = torchrun if launcher == "torchrun" else [sys.executable, script, "--nproc", "2"]
    subprocess.run([*command, *words], check=True, timeout=300)
    assert_written_once(tmp_path / "two", n_epochs=1)
    found = json.loads((tmp_path / "two" / "result.json").read_text())
    assert found["test_result"] == pytest.approx(alone["test_result"], abs=1e-6)


@pytest.mark.slow
def test_torchrun_ends_when_a_process_dies(tmp_path: Path) -> None:
    words = [
        f"--{key}={value}"
        for key, value in entry_settings(tmp_path, hooks=["test_processes.Dies"]).items()
    ]
    folder = Path(__file__).parent
    script = str(folder.parent / "run_recbole_fofa.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", script, *words]
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{folder.parent}"}
    assert subprocess.run(command, timeout=300, env=environment).returncode != 0
