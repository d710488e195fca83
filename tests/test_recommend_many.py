"""Files of histories: in a stream, in parts, interrupted; and the command."""

from __future__ import annotations

import json
import os
import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disks import files_of_at_most
from hypothesis import given
from hypothesis import strategies as st
from ring_bundle import FIXTURE_IS_READ_ONLY, TOKENS

from recbole_fofa import load, recommend_many
from recbole_fofa.command_line import main
from recbole_fofa.errors import DataError, OutputError
from recbole_fofa.serving import many
from recbole_fofa.serving.recommend import Recommender
from recbole_fofa.subcommands.shards import chosen_shard, shard_path


def write_histories(path: Path, n: int = 300) -> list[list[str]]:
    draw = random.Random(4)
    histories = [draw.choices([*TOKENS, "new"], k=draw.randrange(12)) for _ in range(n)]
    if path.suffix == ".jsonl":
        lines = [
            json.dumps(h if i % 2 else {"user": f"u{i}", "history": h})
            for i, h in enumerate(histories)
        ]
    else:
        lines = [f"u{i}\t{' '.join(h)}" if i % 2 else " ".join(h) for i, h in enumerate(histories)]
    path.write_text("\n".join(lines) + "\n")
    return histories


def recommend(bundle: Path, *words: str) -> int:
    return main(["recommend", "--bundle", str(bundle), *words, "-q"])


@pytest.mark.parametrize("name", ["histories.txt", "histories.jsonl"])
def test_a_file_of_histories(
    bundle: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / name, tmp_path / "lists.jsonl"
    histories = write_histories(source)
    assert recommend(bundle, "--histories", str(source), "--output", str(target), "-k", "3") == 0
    assert "300 histories in" in capsys.readouterr().out
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    expected = load(bundle).recommend(histories, 3)
    for number, (line, answer) in enumerate(zip(lines, expected, strict=True)):
        has_user = (number % 2 == 0) == (name == "histories.jsonl")
        assert line.get("user") == (f"u{number}" if has_user else None)
        assert line["scores"] == pytest.approx(answer.scores, abs=1e-5)
        assert line["n_unknown"] == answer.n_unknown and line["source"] == answer.source
    assert [path.name for path in tmp_path.iterdir() if "lists" in path.name] == ["lists.jsonl"]
    # In parts, which one after the other are the whole.
    for number in (1, 2, 3):
        shard = f"{number}/3"
        words = ["--histories", str(source), "--output", str(target), "-k", "3", "--shard", shard]
        assert recommend(bundle, *words) == 0
    parts = sorted(tmp_path.glob("lists-*-of-00003.jsonl"))
    assert len(parts) == 3
    again = [json.loads(line) for path in parts for line in path.read_text().splitlines()]
    for one, other in zip(lines, again, strict=True):
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)


@FIXTURE_IS_READ_ONLY
@given(n_chunks=st.integers(0, 4), torn=st.integers(0, 900))
def test_an_interrupted_call_goes_on(
    recommender: Recommender, tmp_path: Path, n_chunks: int, torn: int
) -> None:
    """Killed after some chunks, with the last bytes not yet on the disk."""
    source, target = tmp_path / "histories.txt", tmp_path / "lists.jsonl"
    part = tmp_path / "lists.jsonl.part"
    write_histories(source, 40)

    def run(k: int = 3) -> list[Any]:
        totals = recommend_many(recommender, source, target, k, show_progress=False)
        assert totals.histories + totals.resumed == 40
        return [json.loads(line) for line in target.read_text().splitlines()]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(many, "HISTORIES_AT_ONCE", 8)
        expected = run()
        target.unlink()
        patch.setattr(recommender, "answerer", killed_after(n_chunks, recommender.answerer))
        with pytest.raises(Killed):
            run()
        patch.undo()
        patch.setattr(many, "HISTORIES_AT_ONCE", 8)
        kept = part.read_bytes()
        part.write_bytes(kept[: max(0, len(kept) - torn)])
        if part.stat().st_size:
            with pytest.raises(DataError, match="differs in k"):
                run(k=4)
        assert run() == expected  # to the last digit
    assert sorted(tmp_path.iterdir()) == [source, target]


def test_two_calls_do_not_write_one_file(recommender: Recommender, tmp_path: Path) -> None:
    source, target = tmp_path / "histories.txt", tmp_path / "lists.jsonl"
    write_histories(source, 30)

    def answerer(*how: Any, **options: Any) -> Any:
        answer = build(*how, **options)

        def meddled(histories: Any) -> Any:
            patch.undo()
            with pytest.raises(OutputError, match="another process"):
                recommend_many(recommender, source, target, 3, show_progress=False)
            return answer(histories)

        return meddled

    build = recommender.answerer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recommender, "answerer", answerer)
        recommend_many(recommender, source, target, 3, show_progress=False)
    assert len(target.read_text().splitlines()) == 30


class Killed(Exception):
    """Stands for the end of the process."""


def killed_after(n_chunks: int, answerer: Any) -> Any:
    def build(*how: Any, **options: Any) -> Any:
        answer, left = answerer(*how, **options), [n_chunks]

        def dying(histories: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return answer(histories)

        return dying

    return build


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("a.jsonl", '{"user": 1}', "line 3: needs a list of tokens"),
        ("a.jsonl", "[1.5]", "line 3 holds 1.5"),
        ("a.jsonl", "[1", "line 3: "),
        ("a.jsonl", '{"user": "\\ud800", "history": []}', "line 3: "),
        ("a.txt", b"\xff", "line 3: "),
    ],
)
def test_a_malformed_line_is_told_before_anything_is_written(
    bundle: Path, tmp_path: Path, name: str, line: Any, said: str, capsys: Any
) -> None:
    source = tmp_path / name
    data = line if isinstance(line, bytes) else line.encode()
    source.write_bytes(b"[]\n\n" + data + b"\n")
    words = ["--histories", str(source), "--output", str(tmp_path / "out.jsonl")]
    assert recommend(bundle, *words) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_refused(bundle: Path, tmp_path: Path, capsys: Any) -> None:
    """Its second reading would find nothing, and the lists would be none."""
    os.mkfifo(tmp_path / "pipe")
    words = ["--histories", str(tmp_path / "pipe"), "--output", str(tmp_path / "lists.jsonl")]
    assert recommend(bundle, *words) == 2
    assert "pipe is no file: histories are read twice" in capsys.readouterr().err


def test_the_part_of_a_launchers_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable alone, which other programs set too, is no launcher's."""
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert chosen_shard(None) == (0, 1)
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    assert (chosen_shard(None), chosen_shard((0, 2))) == ((3, 4), (0, 2))


def test_the_parts_of_a_folder_without_a_name_stand_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"{tmp_path.name}-00002-of-00008"
    assert shard_path(".", (1, 8)) == tmp_path.parent / name
    assert shard_path("lists.jsonl", (1, 8)) == Path("lists-00002-of-00008.jsonl")
    assert shard_path(".", (0, 1)) == Path(".")


def test_what_cannot_take_the_lists_is_told_first(bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "histories.txt"
    write_histories(source, 3)
    before = source.read_text()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.txt").symlink_to(source)
    found = sorted(tmp_path.iterdir())
    for name, said in [
        ("histories.txt", "is the file of the histories"),
        ("link.txt", "is the file of the histories"),
        ("folder", "it is a folder"),
    ]:
        with pytest.raises(DataError, match=said):
            recommend_many(load(bundle), source, tmp_path / name, show_progress=False)
    assert source.read_text() == before and sorted(tmp_path.iterdir()) == found
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="is no regular file"):
        recommend_many(load(bundle), source, tmp_path / "pipe", show_progress=False)
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "new.jsonl.part").write_text("{}\n")
    with pytest.raises(DataError, match=r"^.*\.part has no new\.jsonl\.job beside it: remove"):
        recommend_many(load(bundle), source, tmp_path / "new.jsonl", show_progress=False)


def test_lists_go_where_a_link_points(recommender: Recommender, tmp_path: Path) -> None:
    source = tmp_path / "histories.txt"
    write_histories(source, 3)
    (tmp_path / "disk").mkdir()
    (tmp_path / "lists.jsonl").symlink_to(tmp_path / "disk" / "today.jsonl")
    recommend_many(recommender, source, tmp_path / "lists.jsonl", show_progress=False)
    assert (tmp_path / "lists.jsonl").is_symlink()
    assert len((tmp_path / "disk" / "today.jsonl").read_text().splitlines()) == 3


def test_a_full_disk_is_told_in_one_line_and_gone_on_from(
    bundle: Path, tmp_path: Path, capsys: Any
) -> None:
    source, target = tmp_path / "histories.txt", tmp_path / "lists.jsonl"
    write_histories(source, 3000)
    words = ["--histories", str(source), "--output", str(target), "-k", "3"]
    with files_of_at_most(250_000):
        assert recommend(bundle, *words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {target} cannot be written") and said.count("\n") == 1
    assert recommend(bundle, *words) == 0
    assert "were there already" in capsys.readouterr().out
    assert len(target.read_text().splitlines()) == 3000


def test_all_that_follows_the_first_tab_is_history(
    recommender: Recommender, tmp_path: Path
) -> None:
    source, target = tmp_path / "histories.txt", tmp_path / "lists.jsonl"
    source.write_text("u1\ti1\tnew\ti3\r\nu2\ti1\t\n\ti1 new\nu3\t\n")
    recommend_many(recommender, source, target, show_progress=False)
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [line["user"] for line in lines] == ["u1", "u2", "", "u3"]
    assert [line["n_unknown"] for line in lines] == [1, 0, 1, 0]
    assert [line["source"] for line in lines] == ["model", "model", "model", "popularity"]
    assert lines[0]["items"] == recommender.recommend(["i1", "i3"]).items


def test_memory_does_not_grow_with_what_was_done_before(tmp_path: Path) -> None:
    """Places of lines that stay are not kept: 16,384 lines would be half a megabyte of them."""
    part = tmp_path / "lists.jsonl.part"
    part.write_bytes(b"x" * 30 + b"\n" + b"{}\n" * (16 * many.HISTORIES_AT_ONCE + 7) + b"{")
    tracemalloc.start()
    try:
        assert many._keep_whole_chunks(part) == 16 * many.HISTORIES_AT_ONCE
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert part.stat().st_size == 31 + 3 * (16 * many.HISTORIES_AT_ONCE - 1)
    assert peak < 200_000


def test_other_candidates_are_another_call(recommender: Recommender, tmp_path: Path) -> None:
    """Also where numpy's own text shows the first and last three alone."""
    source, target = tmp_path / "histories.txt", tmp_path / "lists.jsonl"
    write_histories(source, 1 + many.HISTORIES_AT_ONCE)
    one, other = np.arange(2000), np.arange(2000)
    other[1000] = 7
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recommender, "answerer", killed_after(1, recommender.answerer))
        with pytest.raises(Killed):
            recommend_many(recommender, source, target, candidates=one, show_progress=False)
    with pytest.raises(DataError, match="differs in options"):
        recommend_many(recommender, source, target, candidates=other, show_progress=False)


def test_one_history_on_the_command_line(bundle: Path, capsys: Any) -> None:
    assert recommend(bundle, "--history", "i1 i3,new", "-k", "2") == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("by model, structure ") and first.endswith("1 unknown items left out")
    answer = load(bundle).recommend([["i1", "i3", "new"]], 2)[0]
    assert [line.split()[1] for line in rest] == answer.items
    assert recommend(bundle, "--histories", "x") == 2
    assert "--output" in capsys.readouterr().err
    assert recommend(bundle, "--histories", "nosuch", "--output", "x") == 2
    assert "nosuch cannot be read" in capsys.readouterr().err


def test_candidates_of_a_file_are_one_a_line(bundle: Path, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "candidates.txt"
    file.write_bytes(b"\xef\xbb\xbfi2\r\n\r\ni3\r\n")
    assert recommend(bundle, "--history", "i1", "--candidates", str(file)) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert sorted(line.split()[1] for line in lines) == ["i2", "i3"]
    file.write_text("i2 i3\n")
    assert recommend(bundle, "--history", "i1", "--candidates", str(file)) == 2
    assert "no line is an item that the model knows" in capsys.readouterr().err
    file.write_text("\n")
    assert recommend(bundle, "--history", "i1", "--candidates", str(file)) == 2
    assert f"--candidates {file} names no item" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--output", "lists.jsonl"], ["--shard", "2/3"]])
def test_what_is_for_files_of_histories_is_refused(
    bundle: Path, capsys: Any, words: list[str]
) -> None:
    assert recommend(bundle, "--history", "i1", *words) == 2
    assert "--output and --shard are for --histories" in capsys.readouterr().err
