"""Runs that are killed, disks that are full, folders that cannot be written."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import cycle_settings, trainer_of

from recbole_fofa.command_line import main
from recbole_fofa.errors import CheckpointError, ConfigError, OutputError
from recbole_fofa.quick_start import checked_config, run_recbole_fofa
from recbole_fofa.trainer.checkpoint import load_checkpoint, save_checkpoint
from recbole_fofa.trainer.disk import explains_the_disk
from recbole_fofa.trainer.record import EpochRecord, read_record
from recbole_fofa.trainer.resume import beside, find_checkpoint
from recbole_fofa.tuning.search import tune
from recbole_fofa.tuning.space import Range
from recbole_fofa.whole_file import write_whole

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


@contextmanager
def files_of_at_most(count: int) -> Iterator[None]:
    """Writes beyond so many bytes of a file fail, as they do on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def checkpoints(folder: Path) -> tuple[Path, Path]:
    """Of the best and of the last epoch of the only run in an output folder."""
    (best,) = (path for path in folder.glob("saved/*.pth") if "-last" not in path.name)
    return best, beside(best, "-last.pth")


def outcome(folder: Path) -> dict[str, Any]:
    """What a finished run left, without its checkpoints."""
    best, _ = checkpoints(folder)
    return {
        "result": json.loads((folder / "result.json").read_text()),
        "epochs": read_record(beside(best, ".epochs.jsonl")),
        "left": list(best.parent.glob("*.part")),
    }


def equal_states(one: Path, other: Path) -> bool:
    states = [load_checkpoint(path) for path in (one, other)]
    same_weights = all(
        torch.equal(value, states[1]["state_dict"][name])
        for name, value in states[0]["state_dict"].items()
    )
    return same_weights and states[0]["epoch"] == states[1]["epoch"]


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
    """Resolved settings, both checkpoints of each epoch, the result."""
    settings = cycle_settings(tmp_path, epochs=3, learning_rate=0.01)
    run_recbole_fofa(config_dict={**settings, "output_dir": str(tmp_path / "whole")})
    expected = outcome(tmp_path / "whole")
    n_writes = 2 + 2 * 3
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
    sampled = {"mode": "uni4"}
    settings = cycle_settings(tmp_path, epochs=1, eval_args=sampled, metric_decimal_place=8)
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of two epochs, for tests that change nothing in it."""
    folder = tmp_path_factory.mktemp("trained")
    trainer, loaders = trainer_of(folder, epochs=2)
    trainer.fit(*loaders[:2])
    return folder


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


# Folders and disks, before training


@pytest.mark.parametrize(
    ("taken", "key"), [("out/saved", "checkpoint_dir"), ("out/log", "output_dir")]
)
def test_a_file_in_the_place_of_a_folder_is_told_before_data_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: str, key: str
) -> None:
    settings = cycle_settings(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / taken).write_text("")
    monkeypatch.setattr("recbole_fofa.quick_start.prepare_data", pytest.fail)
    with pytest.raises(ConfigError, match=key) as raised:
        run_recbole_fofa(config_dict=settings)
    assert str(tmp_path / taken) in str(raised.value)


@pytest.mark.parametrize("key", ["output_dir", "checkpoint_dir"])
def test_a_folder_that_takes_no_file_is_told_before_data_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Whatever the reason is: permissions do not tell of quotas or of a full disk."""
    settings = cycle_settings(tmp_path, **{key: str(tmp_path / "full" / "x")})
    real = __import__("tempfile").TemporaryFile

    def full(dir: Path) -> Any:
        if "full" in str(dir):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(dir=dir)

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    monkeypatch.setattr("recbole_fofa.quick_start.prepare_data", pytest.fail)
    with pytest.raises(
        ConfigError, match=f"{key}: .*No space left on device. Choose another {key}"
    ):
        run_recbole_fofa(config_dict=settings)


def test_a_run_makes_the_parents_of_its_folder(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "c"
    run_recbole_fofa(config_dict=cycle_settings(tmp_path, epochs=1, output_dir=str(out)))
    assert outcome(out)["result"]["test_result"]


def test_too_little_space_is_told_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(2_000_000))
    monkeypatch.setattr("recbole_fofa.trainer.trainer.FofaTrainer._train_epoch", pytest.fail)
    with pytest.raises(ConfigError, match=r"has 2\.0 MB free, but 3 checkpoints .* about 2\.6 MB"):
        run_recbole_fofa(config_dict=cycle_settings(tmp_path))


@pytest.mark.parametrize("learner", ["adam", "sgd", "adagrad"])
def test_the_space_that_is_asked_for_is_what_checkpoints_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learner: str
) -> None:
    trainer, loaders = trainer_of(tmp_path, epochs=1, learner=learner, hidden_size=64)
    trainer.fit(*loaders[:2])
    size = trainer.last_model_file.stat().st_size
    usage = namedtuple("usage", "free")
    for free, fits in ((0.85 * size, False), (1.15 * size, True)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: usage(int(free)))
        resumed, loaders = trainer_of(tmp_path, epochs=2, learner=learner, hidden_size=64)
        resumed.resume_checkpoint(tmp_path / "out")
        if fits:
            resumed.fit(*loaders[:2])
        else:  # two are there already
            with pytest.raises(ConfigError, match="but 1 checkpoints"):
                resumed.fit(*loaders[:2])


# Disks that fill up in between


def test_a_disk_that_fills_up_leaves_the_older_checkpoints(tmp_path: Path) -> None:
    straight, loaders = trainer_of(tmp_path / "a", epochs=2)
    straight.fit(*loaders[:2])
    first, loaders = trainer_of(tmp_path / "b", epochs=1)
    first.fit(*loaders[:2])
    files = [Path(first.saved_model_file), first.last_model_file]
    before = [path.read_bytes() for path in files]
    resumed, loaders = trainer_of(tmp_path / "b", epochs=2)
    resumed.resume_checkpoint(tmp_path / "b" / "out")
    with files_of_at_most(len(before[0]) // 2), pytest.raises(OutputError) as raised:
        resumed.fit(*loaders[:2])
    message = str(raised.value)
    assert f"{files[0]} cannot be written: File too large" in message
    assert f"continue with --resume_from={files[1]}" in message
    assert [path.read_bytes() for path in files] == before
    assert not list(files[0].parent.glob("*.part"))
    again, loaders = trainer_of(tmp_path / "b", epochs=2)
    again.resume_checkpoint(files[1])
    again.fit(*loaders[:2])
    assert equal_states(again.last_model_file, straight.last_model_file)


def test_the_command_says_so_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = cycle_settings(tmp_path, epochs=1)
    words = [f"--{key}={value}" for key, value in settings.items() if key != "quiet"]
    with files_of_at_most(100_000):
        assert main(words) == 2
    (error,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("error: "))
    assert ".pth cannot be written: File too large" in error
    assert error.endswith("Training stopped; start again")


def test_other_errors_than_the_disks_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), explains_the_disk(tmp_path / "x-last.pth"):
        (tmp_path / "none").read_text()
    with (
        pytest.raises(OutputError, match=r"No space left on device\. Training stopped"),
        explains_the_disk(tmp_path / "x-last.pth"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_whole(path, b"old")
    with files_of_at_most(10), pytest.raises(OutputError, match="x cannot be written"):
        write_whole(path, b"new" * 10)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("x", b"old")]


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def noted(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any) -> Any:
            folder = name == "fsync" and os.path.isdir(f"/proc/self/fd/{arguments[0]}")
            calls.append(f"{name} of the folder" if folder else name)
            return real(*arguments)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noted(name))
    write_whole(tmp_path / "x", b"data")
    assert calls == ["fsync", "replace", "fsync of the folder"]
    calls.clear()
    write_whole(tmp_path / "y", b"data", durable=False)
    assert calls == ["replace"]


# Export


def test_an_export_without_a_folder_stops_before_data_are_loaded(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("recbole_fofa.quick_start.load_data_and_model", pytest.fail)
    checkpoint = str(checkpoints(trained / "out")[0])
    words = ["--checkpoint", checkpoint, "--output_dir", str(tmp_path / "file" / "x")]
    assert main(["export", *words]) == 2
    assert "file is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("largest", ["base.safetensors", "manifest.jsonl"])
def test_an_export_on_a_full_disk_is_continued(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], largest: str
) -> None:
    words = ["--checkpoint", str(checkpoints(trained / "out")[0]), "-q", "--output_dir"]
    assert main(["export", *words, str(tmp_path / "whole")]) == 0
    expected = contents(tmp_path / "whole")
    if largest == "manifest.jsonl":  # the bundle is there already, and the users are not
        shutil.copytree(tmp_path / "whole", tmp_path / "x")
        for path in (tmp_path / "x" / "users").iterdir():
            path.unlink()
    limit = len(expected[largest]) - 100
    with files_of_at_most(limit):
        assert main(["export", *words, str(tmp_path / "x")]) == 2
    assert f"{tmp_path / 'x'}" in capsys.readouterr().err
    assert main(["export", *words, str(tmp_path / "x")]) == 0
    assert contents(tmp_path / "x") == expected


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# Tune


def test_a_full_disk_is_no_trial_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    config = checked_config(config_dict=cycle_settings(tmp_path, epochs=1))
    space = {"learning_rate": Range(0.001, 0.03, log=True)}
    with monkeypatch.context() as patched:
        patched.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", full)
        with pytest.raises(OutputError, match="No space left on device"):
            tune(config, space, 1, tmp_path / "search")
    assert len((tmp_path / "search" / "trials.jsonl").read_text().splitlines()) == 1
    best, _ = tune(config, space, 1, tmp_path / "search")
    assert best.state == "complete"


def test_a_checkpoint_that_lacks_a_part_is_not_continued(tmp_path: Path) -> None:
    trainer, (train, valid, _) = trainer_of(tmp_path, epochs=1)
    trainer.fit(train, valid)
    path = trainer.last_model_file
    state = load_checkpoint(path)
    for name in ("cur_step", "random", "optimizer"):
        save_checkpoint({key: value for key, value in state.items() if key != name}, path)
        with pytest.raises(CheckpointError, match=f"it lacks {name}"):
            trainer.resume_checkpoint(path)
