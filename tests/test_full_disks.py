"""Disks that are full, folders that cannot be written."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from disks import files_of_at_most
from run_files import checkpoints, equal_states, outcome
from small import cycle_settings, trainer_of

from recbole_fofa.command_line import main
from recbole_fofa.errors import ConfigError, OutputError
from recbole_fofa.quick_start import checked_config, run_recbole_fofa
from recbole_fofa.trainer.disk import explains_the_disk
from recbole_fofa.tuning.search import tune
from recbole_fofa.tuning.space import Range
from recbole_fofa.whole_file import write_whole

ROOT = Path(__file__).parent.parent

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
