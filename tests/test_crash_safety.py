"""Runs that are killed, and what goes on after it with what."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_files import checkpoints, equal_states, outcome
from small import cycle_settings, trainer_of

from recbole_fofa.command_line import main
from recbole_fofa.errors import CheckpointError
from recbole_fofa.quick_start import run_recbole_fofa
from recbole_fofa.trainer.checkpoint import load_checkpoint, save_checkpoint
from recbole_fofa.trainer.record import EpochRecord, read_record
from recbole_fofa.trainer.resume import find_checkpoint

ROOT = Path(__file__).parent.parent


class Killed(BaseException):
    """Passes by every ``except Exception``, as a kill would."""


@contextmanager
def killed_at(
    monkeypatch: pytest.MonkeyPatch, n_writes: int, after: bool = False
) -> Iterator[None]:
    """The process dies at a write of a whole file, just before or just after the new name holds.

    Nothing is cleaned up: half of the file stays under its temporary name.
    """
    real, count = os.replace, iter(range(n_writes, -1, -1))

    def replace(source: Path, target: Path) -> None:
        dies = next(count) == 0
        if dies and not after:
            target.with_name(target.name + ".part").write_bytes(source.read_bytes()[:100])
            raise Killed
        real(source, target)
        if dies:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        patched.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(Killed):
            yield


# Kills


@pytest.mark.parametrize("epoch", [0, 1])
def test_killed_between_the_best_epoch_and_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    """The best epoch's file is newer: the run goes on from it and does not train its epoch anew."""
    straight, loaders = trainer_of(tmp_path / "a", epochs=3)
    straight.fit(*loaders[:2])
    killed, loaders = trainer_of(tmp_path / "b", epochs=3)
    with killed_at(monkeypatch, 2 * epoch, after=True):
        killed.fit(*loaders[:2])
    assert killed.last_model_file.exists() == (epoch > 0)
    resumed, loaders = trainer_of(tmp_path / "b", epochs=3)
    resumed.resume_checkpoint(tmp_path / "b" / "out")
    assert resumed.start_epoch == epoch + 1
    resumed.fit(*loaders[:2])
    for found, expected in (
        (resumed.saved_model_file, straight.saved_model_file),
        (resumed.last_model_file, straight.last_model_file),
    ):
        assert equal_states(Path(found), Path(expected))
    assert resumed.best_valid_result == straight.best_valid_result


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Resolved settings, both checkpoints of each epoch, the calibrated one, the result."""
    changes = {"epochs": 3, "learning_rate": 0.01, "calibrate_repeat_bias": True}
    settings = cycle_settings(tmp_path, **changes)
    run_recbole_fofa(config_dict={**settings, "output_dir": str(tmp_path / "whole")})
    expected = outcome(tmp_path / "whole")
    n_writes = 3 + 2 * 3
    for number in range(n_writes):
        out = tmp_path / f"killed-{number}"
        own = {**settings, "output_dir": str(out)}
        with killed_at(monkeypatch, number, after):
            run_recbole_fofa(config_dict=own)
        if list(out.glob("saved/*.pth")):
            own["resume_from"] = str(out)
        else:
            shutil.rmtree(out)  # a run that is started again has a name of its own
        run_recbole_fofa(config_dict=own)
        assert outcome(out) == expected
        for found, wanted in zip(checkpoints(out), checkpoints(tmp_path / "whole"), strict=True):
            assert equal_states(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("job", ["training", "export", "tune", "recommend"])
def test_killed_at_random_moments(job: str) -> None:
    command = [sys.executable, ROOT / "benchmarks" / "kills.py", "--kills=20", "--no_line"]
    done = subprocess.run(
        [*command, "--jobs", job],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.splitlines()[-1].removeprefix(job))
    assert line["kills"] >= 20 and line["compared"] >= 1 and line["differing"] == 0


def test_a_run_that_stopped_early_is_not_trained_further(tmp_path: Path) -> None:
    settings = cycle_settings(tmp_path, epochs=12, stopping_step=0, learning_rate=0.05)
    result = run_recbole_fofa(config_dict=settings)
    before = [path.read_bytes() for path in checkpoints(tmp_path / "out")]
    assert load_checkpoint(checkpoints(tmp_path / "out")[1])["epoch"] < 11
    again = run_recbole_fofa(config_dict={**settings, "resume_from": str(tmp_path / "out")})
    assert again == result
    assert [path.read_bytes() for path in checkpoints(tmp_path / "out")] == before


def test_candidates_of_the_test_are_drawn_alike_after_a_kill(tmp_path: Path) -> None:
    """Killed before its test, which draws from where validation stopped drawing."""
    sampled = {"eval_args": {"mode": "uni4"}, "calibrate_repeat_bias": True}
    settings = cycle_settings(tmp_path, epochs=1, metric_decimal_place=8, **sampled)
    result = run_recbole_fofa(config_dict=settings)
    assert (
        run_recbole_fofa(config_dict={**settings, "resume_from": str(tmp_path / "out")}) == result
    )


# The record of epochs


def test_a_torn_line_is_cut_off_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "x.epochs.jsonl"
    EpochRecord(path).write(0, "train", {"loss": 1.0})
    with path.open("a") as file:
        file.write('{"epoch": 0, "pha')
    assert [line["phase"] for line in read_record(path)] == ["train"]
    EpochRecord(path).write(0, "valid", {"ndcg@10": 0.5})
    assert [json.loads(text)["phase"] for text in path.read_text().splitlines()] == [
        "train",
        "valid",
    ]


@given(st.lists(st.integers(0, 3), max_size=4), st.integers(0, 400))
def test_a_record_cut_anywhere_goes_on(tmp_path_factory: Any, epochs: list[int], cut: int) -> None:
    path = tmp_path_factory.mktemp("record") / "x.epochs.jsonl"
    for number, epoch in enumerate(epochs):
        EpochRecord(path).write(epoch, "train", {"loss": float(number)})
    data = path.read_bytes() if epochs else b""
    path.write_bytes(data[:cut])
    n_whole = data[:cut].count(b"\n")
    EpochRecord(path).write(9, "train", {"loss": -1.0})
    latest = {epoch: float(number) for number, epoch in enumerate(epochs[:n_whole])}
    found = {line["epoch"]: line["loss"] for line in read_record(path)}
    assert found == {**latest, 9: -1.0}


# What is resumed, and with what


def test_a_folder_names_its_newest_run_of_the_model(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    names = ["ForwardOFA-1.pth", "ForwardOFA-1-last.pth", "ForwardOFA-2.pth", "SASRec-3.pth"]
    for age, name in enumerate(names):
        (saved / name).write_bytes(b"")
        os.utime(saved / name, (age, age))
    assert find_checkpoint(tmp_path, "SASRec") == saved / "SASRec-3.pth"
    assert find_checkpoint(tmp_path, "ForwardOFA") == saved / "ForwardOFA-2.pth"
    (saved / "ForwardOFA-2-last.pth").write_bytes(b"")
    for place in (tmp_path, saved):
        assert find_checkpoint(place, "ForwardOFA") == saved / "ForwardOFA-2-last.pth"
    assert find_checkpoint(saved / names[0], "ForwardOFA") == saved / names[0]


def test_a_folder_without_checkpoints_says_to_start_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "saved").mkdir(parents=True)
    assert main([f"--resume_from={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert "stopped before its first epoch ended. Then start it again, without resume_from" in error


def test_changed_settings_are_told(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    other, _ = trainer_of(
        trained, epochs=9, seed=7, session_length=4, output_dir=str(trained / "x")
    )
    with caplog.at_level(logging.WARNING):
        other.resume_checkpoint(trained / "out")
    found = [r.getMessage() for r in caplog.records if "on another" in r.getMessage()]
    assert found == [
        "from epoch 2 on another seed: 2020 -> 7",
        "from epoch 2 on another session_length: 5 -> 4",
    ]


def test_longer_training_is_no_change(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    other, _ = trainer_of(trained, epochs=9)
    with caplog.at_level(logging.WARNING):
        other.resume_checkpoint(trained / "out")
    assert not [r for r in caplog.records if "on another" in r.getMessage()]


@pytest.mark.parametrize(
    "changes",
    [{"valid_metric": "Hit@10"}, {"eval_args": {"mode": "uni2"}}, {"learner": "sgd"}],
    ids=lambda changes: next(iter(changes)),
)
def test_what_makes_a_continuation_meaningless_is_refused(
    trained: Path, changes: dict[str, Any]
) -> None:
    other, _ = trainer_of(trained, **changes)
    with pytest.raises(
        CheckpointError, match=f"cannot be continued with another {next(iter(changes))}"
    ):
        other.resume_checkpoint(trained / "out")


def test_another_model_is_refused(trained: Path) -> None:
    other, _ = trainer_of(trained, model="SASRec")
    last = checkpoints(trained / "out")[1]
    with pytest.raises(CheckpointError, match="another model \\('ForwardOFA' -> 'SASRec'\\)"):
        other.resume_checkpoint(last)


def test_a_changed_learning_rate_holds_for_recboles_models_too(tmp_path: Path) -> None:
    """They have no schedule that would set it: the optimizer's own state holds the old one."""
    first, loaders = trainer_of(tmp_path, model="SASRec", epochs=1)
    first.fit(*loaders[:2])
    other, _ = trainer_of(tmp_path, model="SASRec", epochs=2, learning_rate=0.03)
    other.resume_checkpoint(tmp_path / "out")
    assert [group["lr"] for group in other.optimizer.param_groups] == [0.03]


def test_a_checkpoint_that_lacks_a_part_is_not_continued(tmp_path: Path) -> None:
    trainer, (train, valid, _) = trainer_of(tmp_path, epochs=1)
    trainer.fit(train, valid)
    path = trainer.last_model_file
    state = load_checkpoint(path)
    for name in ("cur_step", "random", "optimizer"):
        save_checkpoint({key: value for key, value in state.items() if key != name}, path)
        with pytest.raises(CheckpointError, match=f"it lacks {name}"):
            trainer.resume_checkpoint(path)
