"""``export --bundle``: a file of histories in a stream, with the files that the data set gives."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from interrupted import export_killed, interrupted_at_write
from ring_bundle import FIXTURE_IS_READ_ONLY, TOKENS
from small import cycle_settings
from test_export import files_of

from recbole_fofa.cloud import export as exporting
from recbole_fofa.cloud.assemble import assemble
from recbole_fofa.cloud.population import population
from recbole_fofa.command_line import main
from recbole_fofa.device.runtime import DeviceRuntime
from recbole_fofa.errors import DataError
from recbole_fofa.quick_start import load_data_and_model, run_recbole_fofa
from recbole_fofa.serving import history_file
from recbole_fofa.serving.histories import Vocabulary
from recbole_fofa.serving.history_file import HistoryFile
from recbole_fofa.serving.recommend import load

ROOT = Path(__file__).parent.parent
VOCABULARY = Vocabulary(TOKENS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of a short run on the ring; its data set is still there."""
    folder = tmp_path_factory.mktemp("trained")
    settings = cycle_settings(folder, epochs=1, n_layers=3, keep_bias=0.0, mapper_scale=1.0)
    run_recbole_fofa(config_dict=settings)
    return folder / "out"


@pytest.fixture(scope="module")
def of_ring(run: Path) -> dict[str, list[str]]:
    """Users of the data set in its order, and the tokens of their items."""
    people = population(load_data_and_model(run)[2])
    read = people.read(range(len(people)))
    return {user: [people.item_tokens[item] for item in items] for user, items in read}


def write(path: Path, people: dict[str, list[str]]) -> Path:
    if path.suffix == ".jsonl":
        lines = [json.dumps({"user": user, "history": items}) for user, items in people.items()]
    else:
        lines = [f"{user}\t{' '.join(items)}" for user, items in people.items()]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def export(run: Path, source: Path, folder: Path, *words: str) -> int:
    given = ["--bundle", str(run), "--histories", str(source), "--output_dir", str(folder)]
    return main(["export", *given, "-q", *words])


def of_data(run: Path, folder: Path, *words: str) -> int:
    return main(["export", "--checkpoint", str(run), "--output_dir", str(folder), "-q", *words])


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Of the manifest, without a torn one at the end."""
    lines = (folder / "manifest.jsonl").read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


@pytest.mark.parametrize("name", ["histories.txt", "histories.jsonl"])
@pytest.mark.parametrize("words", [["--profile", "high", "--format", "onnx"], ["--shard", "2/3"]])
def test_a_file_gives_what_its_data_set_gives(
    run: Path,
    of_ring: dict[str, list[str]],
    tmp_path: Path,
    name: str,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Byte for byte, so that either goes on with what the other began."""
    monkeypatch.setattr(exporting, "CHUNK", 16)
    source = write(tmp_path / name, of_ring)
    assert of_data(run, tmp_path / "data", *words) == 0
    assert export(run, source, tmp_path / "file", *words) == 0
    part = "-00002-of-00003" if "--shard" in words else ""
    found, expected = files_of(tmp_path / f"file{part}"), files_of(tmp_path / f"data{part}")
    assert found == expected
    payloads = [data for name, data in found.items() if name.startswith("users/")]
    assert len(payloads) == (20 if part else 60)
    assert len(set(payloads)) > 10  # users differ


def test_parts_one_after_the_other_are_the_whole(
    run: Path, of_ring: dict[str, list[str]], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(exporting, "CHUNK", 10)  # so that chunks of parts are those of the whole
    source = write(tmp_path / "histories.txt", of_ring)
    assert export(run, source, tmp_path / "x") == 0
    for shard in ("1/3", "2/3", "3/3"):
        assert export(run, source, tmp_path / "x", "--shard", shard) == 0
    parts = [files_of(tmp_path / f"x-{number:05d}-of-00003") for number in (1, 2, 3)]
    whole = files_of(tmp_path / "x")
    assert b"".join(part["manifest.jsonl"] for part in parts) == whole["manifest.jsonl"]
    users = {name: data for part in parts for name, data in part.items() if name[:5] == "users"}
    assert users == {name: data for name, data in whole.items() if name[:5] == "users"}
    assert all(part["base.safetensors"] == whole["base.safetensors"] for part in parts)
    # Parts of equal size are not taken for each other.
    (tmp_path / "x-00002-of-00003").rename(tmp_path / "aside")
    (tmp_path / "x-00001-of-00003").rename(tmp_path / "x-00002-of-00003")
    assert export(run, source, tmp_path / "x", "--shard", "2/3") == 2
    assert "holds another export (part differ)" in capsys.readouterr().err


def test_unknown_items_are_left_out_and_counted(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of somebody who has no other, and is adapted to as devices without a history are."""
    plain = {"a": ["i1", "i3", "i5"], "b": [], "c": ["i2"]}
    strange = {"a": ["new", "i1", "i3", "new", "i5"], "b": ["new"], "c": ["i2"]}
    assert export(run, write(tmp_path / "plain.txt", plain), tmp_path / "plain") == 0
    capsys.readouterr()
    assert export(run, write(tmp_path / "strange.txt", strange), tmp_path / "strange") == 0
    said = capsys.readouterr().out
    assert "3 users in" in said
    assert f"3 unknown items of {tmp_path / 'strange.txt'} left out, 1 of its 3 users" in said
    assert files_of(tmp_path / "strange") == files_of(tmp_path / "plain")

    device = DeviceRuntime((tmp_path / "plain/base.safetensors").read_bytes())
    line = lines_of(tmp_path / "plain")[1]
    uplink = device.uplink([])
    assert line["structure"] == "".join(map(str, uplink.structure))
    interest = torch.from_numpy(uplink.interest)
    device.apply(assemble(load(run).model, device.bundle.info, uplink.structure, interest))
    expected = device.score(["i1", "i2"], TOKENS)
    device.apply((tmp_path / "plain" / line["file"]).read_bytes())
    found = device.score(["i1", "i2"], TOKENS)
    assert found == pytest.approx(expected, rel=1e-2, abs=1e-4)  # its numbers are fp16


@pytest.mark.parametrize(
    ("name", "lines", "said"),
    [
        ("a.txt", "u1\ti1\ni1 i2\n", "line 2 names no user"),
        ("a.txt", "u1\ti1\n\n", "line 2 names no user"),
        ("a.txt", "\ti1\n", "line 1 names no user"),
        ("a.txt", "", "has no line"),
        ("a.txt", "u1\ti1\nu2\ti1\nu1\ti2\n", "line 3: user 'u1' has line 1 already"),
        ("a.jsonl", '["i1"]\n', "line 1 names no user"),
        ("a.jsonl", '{"user": true, "history": []}\n', "line 1 names no user"),
        ("a.jsonl", '{"user": 1.5, "history": []}\n', "line 1 names no user"),
        ("a.jsonl", '{"user": 7, "history": [1.5]}\n', "line 1 holds 1.5"),
        (
            "a.jsonl",
            '{"user": 7, "history": []}\n{"user": "7", "history": []}\n',
            "line 2: user '7' has line 1 already",
        ),
    ],
)
def test_faults_of_the_file_are_told_before_anything_is_written(
    run: Path, tmp_path: Path, name: str, lines: str, said: str, capsys: Any
) -> None:
    (tmp_path / name).write_text(lines)
    assert export(run, tmp_path / name, tmp_path / "x") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@FIXTURE_IS_READ_ONLY
@given(users=st.lists(st.sampled_from(["a", "b", "ab", "é", "10", "1"]), min_size=1, max_size=6))
@pytest.mark.parametrize("hashed", [hash, len])
def test_a_user_twice_is_found_and_equal_hashes_are_none(
    tmp_path: Path, users: list[str], hashed: Any
) -> None:
    """Compared with a look at all names; some users share a hash that is their length."""
    source = tmp_path / "histories.txt"
    source.write_text("".join(f"{user}\ti1\n" for user in users), encoding="utf-8")
    second = next((n for n, user in enumerate(users) if user in users[:n]), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_file, "hash", hashed, raising=False)
        if second is None:
            assert [user for user, _ in HistoryFile(source, VOCABULARY).read(range(6))] == users
            return
        first = users.index(users[second])
        with pytest.raises(DataError, match=f"line {second + 1}: .* has line {first + 1} already"):
            HistoryFile(source, VOCABULARY)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bundle", "x"], "--bundle needs --histories"),
        (["--bundle", "x", "--histories", "y", "--users", "u1"], "choose from a data set"),
        (["--bundle", "x", "--histories", "y", "--users_file", "z"], "choose from a data set"),
        (["--checkpoint", "x", "--histories", "y"], "--histories goes with --bundle"),
        (["--bundle", "nosuch", "--histories", "y"], "no bundle in nosuch"),
        ([], "one of the arguments --checkpoint --bundle is required"),
        (["--checkpoint", "x", "--bundle", "y"], "not allowed with argument --checkpoint"),
    ],
)
def test_words_that_do_not_go_together(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        assert main(["export", *words, "--output_dir", str(tmp_path / "x")]) == 2
    except SystemExit as stopped:  # argparse's own
        assert stopped.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_what_cannot_be_read_or_served(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(run, tmp_path / "nosuch", tmp_path / "x") == 2
    assert "nosuch cannot be read: No such file" in capsys.readouterr().err
    assert export(run, tmp_path, tmp_path / "x") == 2
    assert "cannot be read: Is a directory" in capsys.readouterr().err
    source = write(tmp_path / "histories.txt", {"u1": ["i1"]})
    run_recbole_fofa("DUET", config_dict=cycle_settings(tmp_path, epochs=1))
    assert export(tmp_path / "out", source, tmp_path / "x") == 2
    assert "DUET has no structures or parameters of single users" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_another_file_is_another_export(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "histories.txt", {"u1": ["i1"], "u2": ["i2"]})
    assert export(run, source, tmp_path / "x") == 0
    before = files_of(tmp_path / "x")
    for changed in ({"u1": ["i1"], "u3": ["i2"]}, {"u1": ["i1"], "u2": ["i3"]}):
        assert export(run, write(source, changed), tmp_path / "x") == 2
        assert "holds another export (histories differ)" in capsys.readouterr().err
    assert files_of(tmp_path / "x") == before


def test_a_report_on_a_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of users with an item: without any, a device has nothing to score from."""
    empty = write(tmp_path / "empty.txt", {"u0": ["new"], "u1": []})
    assert export(run, empty, tmp_path / "x", "--report", "1") == 2
    assert "none of 2 users has an item that the model knows" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    people = {"u0": ["new"], "u1": ["i1", "i4"], "u2": [f"i{n % 15}" for n in range(40)]}
    source = write(tmp_path / "histories.txt", people)
    assert export(run, source, tmp_path / "x", "--report", "3", "--profile", "high") == 0
    report = json.loads((tmp_path / "x/report.json").read_text())
    assert report["users"] == 2
    assert report["engines"]["numpy"]["largest_relative_difference"] < 1e-5


def test_a_stopped_export_ends_with_the_same_files(
    run: Path, of_ring: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each chunk, with a torn line, and with a file that is gone."""
    monkeypatch.setattr(exporting, "CHUNK", 16)
    source = write(tmp_path / "histories.jsonl", of_ring)
    assert export(run, source, tmp_path / "whole") == 0
    expected = files_of(tmp_path / "whole")
    for n_writes in (0, 1, 2, 17, 18, 40, 61):
        folder = tmp_path / f"stopped-{n_writes}"
        with interrupted_at_write(n_writes):
            assert export(run, source, folder) == 130
        if (folder / "manifest.jsonl").exists():
            with (folder / "manifest.jsonl").open("a") as file:
                file.write('{"user": "u9", "fi')
        if n_writes == 40:
            (folder / lines_of(folder)[20]["file"]).unlink()
        assert export(run, source, folder) == 0
        assert files_of(folder) == expected


@pytest.mark.slow
def test_a_killed_export_ends_with_the_same_files(run: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments until it gets through, in chunks of their real size."""
    draw = random.Random(3)
    people = {f"u{n}": draw.choices(TOKENS, k=draw.randrange(20)) for n in range(600)}
    source = write(tmp_path / "histories.txt", people)
    assert export(run, source, tmp_path / "whole") == 0
    words = ["--bundle", run, "--histories", source, "--output_dir", tmp_path / "killed", "-q"]
    assert export_killed(words, tmp_path / "killed", [draw.uniform(0, 0.5) for _ in range(8)])
    found = {k: v for k, v in files_of(tmp_path / "killed").items() if not k.endswith(".part")}
    assert found == files_of(tmp_path / "whole")


def test_the_check_holds_some_bytes_a_user(tmp_path: Path) -> None:
    """An array of 8 bytes a user that moves when it grows; their names alone would be 60 each."""
    peaks = {}
    for n_users in (1_000, 9_000):
        people = {f"user-{n}": ["i1", "i2", "i3"] for n in range(n_users)}
        source = write(tmp_path / "histories.txt", people)
        tracemalloc.start()
        try:
            found = HistoryFile(source, VOCABULARY)
            peaks[n_users] = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert len(found) == n_users
    assert peaks[9_000] - peaks[1_000] < 20 * 8_000


PROGRAM = """
import sys
import torch
torch.set_num_threads(1)
from recbole_fofa.command_line import main
assert main(sys.argv[1:]) == 0
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux' own counter")
def test_memory_does_not_grow_with_the_users(run: Path, tmp_path: Path) -> None:
    """As lists of tokens, 20,000 histories of 100 items would be more than 16 MB.

    A second call reads all that the first has written, and keeps none of it either.
    """
    peaks = {}
    for n_users in (200, 20_000):
        source = tmp_path / f"{n_users}.txt"
        with source.open("w") as file:
            for n in range(n_users):
                items = " ".join(TOKENS[(n + 2 * step) % len(TOKENS)] for step in range(100))
                file.write(f"user-{n}\t{items}\n")
        words = ["--histories", str(source), "--output_dir", str(tmp_path / f"x{n_users}"), "-q"]
        for call in ("first", "second"):
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, "export", "--bundle", str(run), *words],
                capture_output=True,
                text=True,
                check=True,
                cwd=ROOT,
            )
            peaks[n_users, call] = 1024 * int(done.stdout.split()[-1])
        assert len(lines_of(tmp_path / f"x{n_users}")) == n_users
    for call in ("first", "second"):
        assert peaks[20_000, call] - peaks[200, call] < 8e6
