"""Fixed candidates: every model ranks the same ones, and only for the cases they are of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recbole_fofa.data.sequences import Histories
from recbole_fofa.errors import ConfigError, DataError
from recbole_fofa.evaluator.candidates import _digest, load_candidates, make_candidates
from recbole_fofa.evaluator.cases import Cases
from recbole_fofa.evaluator.retrieval import Retriever

N_ITEMS = 30


def small_cases(n_users: int = 12, length: int = 6) -> Cases:
    """Users on a ring of 30 items, the last item of each is the target."""
    users = np.repeat(np.arange(1, n_users + 1), length)
    steps = np.tile(np.arange(length), n_users)
    histories = Histories.of(users, (users * 3 + steps) % N_ITEMS + 1)
    positions = np.flatnonzero(steps == length - 1)
    return Cases(
        positions,
        histories,
        np.flatnonzero(steps < length - 1),
        ["[PAD]", *(f"u{user}" for user in range(n_users))],
        ["[PAD]", *(f"i{item}" for item in range(N_ITEMS))],
    )


@pytest.mark.parametrize("kind", ["uni9", "pop9"])
def test_drawn_candidates(tmp_path: Path, kind: str) -> None:
    cases = small_cases()
    found = make_candidates(tmp_path, cases, kind, seed=3)
    rows = found.of(slice(0, len(cases))).numpy()
    assert (rows[:, 0] == cases.targets).all()
    for row, position in enumerate(cases.positions):
        others = rows[row, 1:].tolist()
        history = cases.histories.items[cases.histories.starts[position] : position + 1].tolist()
        assert len(set(others)) == 9 and not set(others) & set(history)
    again = make_candidates(tmp_path / "again", cases, kind, seed=3)
    other = make_candidates(tmp_path, cases, kind, seed=4)
    assert again.info == found.info and other.info.digest != found.info.digest
    assert found.info.recall == 1.0


def test_popular_items_are_drawn_more_often(tmp_path: Path) -> None:
    cases = small_cases(n_users=40)
    # One item in ten of the training places; nobody's history has it.
    items = cases.histories.items.copy()
    items[cases.training[::10]] = N_ITEMS
    cases = replace(cases, histories=Histories.of(cases.histories.users, items))
    counts = {}
    for kind in ("uni5", "pop5"):
        rows = make_candidates(tmp_path, cases, kind, seed=0).of(slice(0, 40))
        counts[kind] = int((rows[:, 1:] == N_ITEMS).sum())
    assert counts["pop5"] > 1.5 * counts["uni5"]


def test_a_file_is_drawn_once(tmp_path: Path) -> None:
    cases = small_cases()
    make_candidates(tmp_path, cases, "uni5", seed=1)
    path = tmp_path / "uni5-seed1.npy"
    written = path.stat().st_mtime_ns
    make_candidates(tmp_path, cases, "uni5", seed=1)
    assert path.stat().st_mtime_ns == written
    make_candidates(tmp_path, cases, "uni5", seed=2)  # a file of its own
    assert path.stat().st_mtime_ns == written
    path.with_suffix(".json").unlink()  # as if killed between the two
    make_candidates(tmp_path, cases, "uni5", seed=1)
    assert load_candidates(path, cases).info.seed == 1
    make_candidates(tmp_path, small_cases(n_users=11), "uni5", seed=1)
    assert path.stat().st_mtime_ns != written


@pytest.mark.parametrize("kind", ["pop5", "retrieval5"])
def test_candidates_of_another_training_split_are_drawn_anew(tmp_path: Path, kind: str) -> None:
    cases = small_cases()
    other = replace(cases, training=cases.training[:20])
    made = [
        make_candidates(folder, one, kind, seed=1).info.digest
        for folder, one in (
            (tmp_path / "a", cases),
            (tmp_path / "a", other),
            (tmp_path / "b", other),
        )
    ]
    assert made[0] != made[1] == made[2]


def test_candidates_of_other_cases_are_refused(tmp_path: Path) -> None:
    make_candidates(tmp_path, small_cases(), "uni5", seed=1)
    with pytest.raises(DataError, match="other cases"):
        load_candidates(tmp_path / "uni5-seed1.npy", small_cases(n_users=11))


def test_damaged_candidates_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "uni5-seed1.npy"
    cases = small_cases()
    make_candidates(tmp_path, cases, "uni5", seed=1)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"seed1\.npy are damaged"):
        load_candidates(path, cases)
    np.savez(tmp_path / "other.npz", rows=np.zeros(3))
    for wrong in (b"no array", b"", bytes(data[:90]), (tmp_path / "other.npz").read_bytes()):
        path.write_bytes(wrong)
        with pytest.raises(DataError, match=r"seed1\.npy"):
            load_candidates(path, cases)
    for text in ("{}", "[]", "", '{"kind": 1}'):
        path.with_suffix(".json").write_text(text)
        with pytest.raises(DataError, match=r"seed1\.npy"):
            load_candidates(path, cases)


def test_candidates_that_are_no_items_are_refused(tmp_path: Path) -> None:
    cases = small_cases()
    path = tmp_path / "uni5-seed1.npy"
    make_candidates(tmp_path, cases, "uni5", seed=1)
    rows = np.load(path)
    rows[0, 1] = 99
    np.save(path, rows)
    info = json.loads(path.with_suffix(".json").read_text())
    info["digest"] = _digest(rows)
    path.with_suffix(".json").write_text(json.dumps(info))
    with pytest.raises(DataError, match="are damaged"):
        load_candidates(path, cases)


def test_too_few_unseen_items_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"user u0 has had 6 of 30 items.*fewer than 25"):
        make_candidates(tmp_path, small_cases(), "uni25", seed=0)
    for kind in ("uni31", "retrieval99999999999999999999"):
        with pytest.raises(DataError, match="there are 30 items only"):
            make_candidates(tmp_path, small_cases(), kind, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown candidates 'some'"):
        make_candidates(tmp_path, small_cases(), "some", seed=0)


def test_retrieval_finds_what_follows(tmp_path: Path) -> None:
    """On a ring the next item is among the neighbours of the last ones."""
    cases = small_cases(n_users=30)
    found = make_candidates(tmp_path, cases, "retrieval8", seed=0)
    assert found.info.recall == 1.0
    unseen = make_candidates(tmp_path, cases, "retrieval8", seed=0, without_history=True)
    for row, position in enumerate(cases.positions):
        history = cases.histories.items[cases.histories.starts[position] : position].tolist()
        assert not set(unseen.of(slice(row, row + 1))[0].tolist()) & set(history)
    stored = json.loads((tmp_path / "retrieval8-seed0-unseen.json").read_text())
    assert stored["without_history"] is True and stored["kind"] == "retrieval8"


def test_retrieval_fills_up_with_popular_items() -> None:
    histories = Histories.of(np.array([1, 1, 2, 2, 2]), np.array([1, 2, 4, 4, 5]))
    retriever = Retriever(histories, np.arange(5), 7)
    assert retriever.retrieve([1], set(), 3) == [2, 4, 1]
    assert retriever.retrieve([1], {4}, 3) == [2, 1, 5]
    assert retriever.retrieve([6], set(), 2) == [4, 1]  # an item that training never saw
