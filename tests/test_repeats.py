"""The repeat bias: what counts as had before, for whom, and what training makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import cycle_settings, trainer_of
from torch import Tensor
from torch.nn import functional as F

from recbole_fofa.data.session_loader import TARGETS
from recbole_fofa.errors import CheckpointError
from recbole_fofa.evaluator.ranking import DotProducts
from recbole_fofa.model import cross_entropy as module
from recbole_fofa.model.cross_entropy import cross_entropy
from recbole_fofa.model.repeats import Repeats, among, each_among, each_once
from recbole_fofa.quick_start import checked_config, prepare_data
from recbole_fofa.trainer.calibration import LARGEST, SMALLEST, best_shift
from recbole_fofa.trainer.checkpoint import load_checkpoint

ITEMS = st.lists(st.lists(st.integers(0, 9), min_size=7, max_size=7), min_size=1, max_size=6)


@given(rows=ITEMS, asked=st.integers(0, 9))
def test_each_item_is_kept_where_it_comes_first(rows: list[list[int]], asked: int) -> None:
    found = each_once(torch.tensor(rows)).tolist()
    for row, own in zip(rows, found, strict=True):
        assert own == [0 if item in row[:place] else item for place, item in enumerate(row)]
    items = torch.full((len(rows), 1), asked)
    assert among(items, torch.tensor(rows)).flatten().tolist() == [asked in row for row in rows]
    single = each_among(items[:, 0], torch.tensor(rows)).tolist()
    assert single == [asked > 0 and asked in row for row in rows]


@given(rows=ITEMS, begin=st.integers(0, 9), width=st.integers(1, 10))
def test_the_bias_is_added_to_what_was_had_and_to_nothing_else(
    rows: list[list[int]], begin: int, width: int
) -> None:
    bias = torch.arange(1.0, len(rows) + 1)
    repeats = Repeats.of(torch.tensor(rows), bias)
    expected = torch.zeros(len(rows), 10)
    for row, own in enumerate(rows):
        for item in {*own} - {0}:
            expected[row, item] = bias[row]
    every = torch.arange(10).expand(len(rows), -1)
    assert torch.equal(repeats.of_items(every), expected)
    part = expected[:, begin : begin + width]
    assert torch.equal(repeats.added_to(torch.zeros_like(part), begin), part)


SIZES = {
    "n_targets": st.integers(1, 20),
    "n_items": st.integers(2, 30),
    "at_once": st.integers(1, 300),
}


def drawn(n_targets: int, n_items: int) -> tuple[Tensor, Tensor, Repeats, Tensor]:
    """States, items, a bias, all with gradients, and targets."""
    hidden = torch.randn(n_targets, 8, dtype=torch.float64, requires_grad=True)
    table = torch.randn(n_items, 8, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(n_targets, dtype=torch.float64, requires_grad=True)
    repeats = Repeats.of(torch.randint(n_items, (n_targets, 9)), bias)
    return hidden, table, repeats, torch.randint(n_items, (n_targets,))


@given(**SIZES)
def test_cross_entropy_with_the_bias_is_that_of_the_changed_scores(
    n_targets: int, n_items: int, at_once: int
) -> None:
    hidden, table, repeats, targets = drawn(n_targets, n_items)
    expected = 3 * F.cross_entropy(repeats.added_to(hidden @ table.T), targets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module.SCORES_AT_ONCE, "cpu", at_once)
        found = 3 * cross_entropy(hidden, targets, table, repeats)
    torch.testing.assert_close(found, expected)
    gradients = torch.autograd.grad(found, (hidden, table, repeats.bias))
    torch.testing.assert_close(
        gradients, torch.autograd.grad(expected, (hidden, table, repeats.bias))
    )


@given(**SIZES)
def test_where_repeats_stay_negatives_the_bias_learns_alone(
    n_targets: int, n_items: int, at_once: int
) -> None:
    hidden, table, repeats, targets = drawn(n_targets, n_items)
    plain = hidden @ table.T
    changed = F.cross_entropy(repeats.added_to(plain.detach()), targets)
    network = torch.autograd.grad(F.cross_entropy(plain, targets), (hidden, table))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module.SCORES_AT_ONCE, "cpu", at_once)
        found = cross_entropy(hidden, targets, table, repeats, as_negatives=True)
    torch.testing.assert_close(found, changed)
    gradients = torch.autograd.grad(found, (hidden, table, repeats.bias))
    expected = (*network, *torch.autograd.grad(changed, repeats.bias))
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("bias", [-60.0, -20.0, 0.0, 60.0])
def test_a_bias_of_items_with_nearly_all_of_the_softmax(bias: float) -> None:
    """In float32 one less their share is nothing, and all the rest are to be told apart."""
    table = torch.tensor([[0.0, 0.0], [20.0, 0.0], [0.0, -4.0], [0.0, 3.0]])
    hidden, target = torch.ones(1, 2), torch.tensor([2])
    added = torch.tensor([bias], requires_grad=True)
    repeats = Repeats(torch.tensor([[1, 0]]), added)
    found = cross_entropy(hidden, target, table, repeats, as_negatives=True)
    expected = F.cross_entropy(repeats.added_to(hidden @ table.T), target)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, added)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients)


@given(n_items=st.integers(2, 40), width=st.integers(1, 40))
def test_ranges_and_single_items_have_the_scores_of_the_whole(n_items: int, width: int) -> None:
    vectors, table = torch.randn(3, 4), torch.randn(n_items, 4)
    seen = each_once(torch.randint(n_items, (3, 6)))
    scores = DotProducts(vectors, table, Repeats(seen, torch.tensor([-1.0, 0.0, 2.0])))
    whole = scores.of_range(0, n_items)
    parts = [scores.of_range(b, min(b + width, n_items)) for b in range(0, n_items, width)]
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    every = torch.arange(n_items).expand(3, -1)
    torch.testing.assert_close(scores.of_items(every), whole)


@pytest.mark.parametrize("newest", [3, 500])
def test_in_training_what_lies_before_each_target_counts(tmp_path: Path, newest: int) -> None:
    """Never the target itself or what follows, unless it was had before too."""
    settings = cycle_settings(tmp_path, repeat_seq_length=newest)
    config = checked_config(config_dict=settings)
    train, *_ = prepare_data(config)
    model = config.model_class(config, train._dataset)
    histories, n_asked = train.histories, 0
    for number in range(0, len(train.windows), 4):
        windows = train.windows.at(np.arange(number, min(number + 4, len(train.windows))))
        rows = train.batch(windows)
        places = (rows[TARGETS] > 0).nonzero(as_tuple=True)
        repeats = model._repeats(torch.zeros(len(rows)), rows, *places)
        ends = rows["item_length"]
        for row, place, seen in zip(*places, repeats.seen, strict=True):
            position = windows.ends[row] - int(ends[row]) + int(place)
            assert histories.items[position] == rows[TARGETS][row, place]
            start = max(histories.starts[position], windows.ends[row] - 1 - newest)
            assert {*seen.tolist()} - {0} == {*histories.items[start:position].tolist()}
            n_asked += 1
    assert n_asked > 100


def test_a_long_history_counts_beyond_what_is_read(tmp_path: Path) -> None:
    """The ring's users have 12 items; the network and adaptation read 8."""
    trainer, (*_, test) = trainer_of(tmp_path)
    model = trainer.model.eval()
    rows = next(iter(test))[0]
    places = torch.arange(len(rows)), rows["item_length"] - 1
    repeats = model._repeats(torch.zeros(len(rows)), rows, *places)
    histories = test._dataset.histories
    for row, position in enumerate(rows["history_position"].tolist()):
        before = histories.items[histories.starts[position] : position]
        assert len(before) == 11
        assert {*repeats.seen[row].tolist()} - {0} == {*before.tolist()}


def test_scores_are_those_without_it_plus_the_bias(tmp_path: Path) -> None:
    trainer, (*_, test) = trainer_of(tmp_path, loss_type="BPR")
    model, rows = trainer.model.eval(), next(iter(test))[0]
    with torch.no_grad():
        layer = model.network.mapper.to_repeat_bias
        layer.bias.fill_(-3.0)
        scores = model.full_sort_predict(rows)
        single = model.predict(rows)
        bias = model.states(rows).repeat_bias
        layer.weight.zero_()
        layer.bias.zero_()
        without = model.full_sort_predict(rows)
    assert bias.std() > 0
    had = torch.zeros_like(scores, dtype=torch.bool)
    had.scatter_(1, rows["seen_item_id_list"], True)
    had[:, 0] = False
    torch.testing.assert_close(scores, without + bias[:, None] * had)
    torch.testing.assert_close(single, scores.gather(1, rows["item_id"][:, None]).squeeze(1))


@pytest.mark.parametrize("loss_type", ["CE", "BPR", "BCE"])
@pytest.mark.parametrize("regime", ["session", "prefix"])
def test_training_learns_whether_items_come_again(
    tmp_path: Path, loss_type: str, regime: str
) -> None:
    """Users who walk from item to new item, and users who stay with two."""
    for kind, sign in (("new", -1), ("again", 1)):
        settings = {
            "dataset": str(write_users(tmp_path / kind, again=kind == "again")),
            "loss_type": loss_type,
            "train_regime": regime,
            "epochs": 3,
            "learning_rate": 0.01,
        }
        for how in ("generated", "shared"):
            trainer, loaders = trainer_of(tmp_path / kind / how, **settings, repeat_bias=how)
            trainer.fit(loaders[0], None, saved=False)
            model = trainer.model.eval()
            with torch.no_grad():
                bias = model.states(next(iter(loaders[2]))[0]).repeat_bias
            assert bool((sign * bias > 0.2).all()), (kind, how, bias)


@pytest.mark.parametrize("how", ["generated", "shared"])
def test_validation_scores_decide_how_much_repeats_count(tmp_path: Path, how: str) -> None:
    """Training where hardly anything comes again, and held-out items that always do."""
    settings = {
        "dataset": str(write_users(tmp_path, again=False, come_back=2)),
        "repeat_bias": how,
        "use_mapper": how == "generated",
        "epochs": 2,
    }
    without, loaders = trainer_of(tmp_path / "without", **settings)
    score, _ = without.fit(*loaders[:2])
    settings["calibrate_repeat_bias"] = True
    trainer, loaders = trainer_of(tmp_path / "with", **settings)
    better, result = trainer.fit(*loaders[:2])
    assert better > 1.2 * score
    file = Path(trainer.saved_model_file)
    state = load_checkpoint(file)
    assert trainer.evaluate(loaders[1]) == result == state["best_valid_result"]
    without.evaluate(loaders[1])  # the best epoch again
    shift = trainer.model.network.repeat_intercept() - without.model.network.repeat_intercept()
    assert shift == pytest.approx(state["calibrated"]["repeat_bias"]) != 0


def test_a_calibrated_run_is_the_end_of_a_run(tmp_path: Path) -> None:
    """Taken up again it ends as it did; only the last epoch's file is trained further."""
    settings = {
        "dataset": str(write_users(tmp_path, again=False, come_back=2)),
        "calibrate_repeat_bias": True,
        "learning_rate": 0.01,
    }
    whole, loaders = trainer_of(tmp_path / "whole", **settings, epochs=3)
    expected = whole.fit(*loaders[:2])
    last = {name: value.clone() for name, value in whole.model.state_dict().items()}

    first, loaders = trainer_of(tmp_path / "parts", **settings, epochs=1)
    told = first.fit(*loaders[:2])
    files = Path(first.saved_model_file), first.last_model_file
    before = [file.read_bytes() for file in files]
    again, loaders = trainer_of(tmp_path / "again", **settings, epochs=1)
    again.resume_checkpoint(files[1])
    assert again.fit(*loaders[:2]) == told
    assert [file.read_bytes() for file in files] == before

    longer, loaders = trainer_of(tmp_path / "longer", **settings, epochs=3)
    with pytest.raises(CheckpointError, match=f"continue from {files[1].name}"):
        longer.resume_checkpoint(files[0])
    longer.resume_checkpoint(files[1])
    assert longer.fit(*loaders[:2]) == expected
    assert all(torch.equal(last[name], value) for name, value in longer.model.state_dict().items())

    settings["calibrate_repeat_bias"] = False
    without, _ = trainer_of(tmp_path / "without", **settings, epochs=4)
    with pytest.raises(CheckpointError, match="set calibrate_repeat_bias: true"):
        without.resume_checkpoint(files[1])


def test_a_run_from_before_is_calibrated_when_it_is_taken_up(tmp_path: Path) -> None:
    dataset = str(write_users(tmp_path, again=False, come_back=2))
    trainer, loaders = trainer_of(tmp_path / "plain", dataset=dataset, epochs=1)
    score, _ = trainer.fit(*loaders[:2])
    settings = {"dataset": dataset, "epochs": 1, "calibrate_repeat_bias": True}
    again, loaders = trainer_of(tmp_path / "again", **settings)
    again.resume_checkpoint(trainer.last_model_file)
    better, _ = again.fit(*loaders[:2])
    state = load_checkpoint(trainer.saved_model_file)
    assert better == state["best_valid_score"] > score
    assert state["config"]["calibrate_repeat_bias"] is True


def test_all_shifts_are_judged_by_the_same_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing shifted, all validations that draw four items find the same."""
    trainer, loaders = trainer_of(
        tmp_path, epochs=1, eval_args={"mode": "uni4"}, calibrate_repeat_bias=True
    )
    monkeypatch.setattr(trainer.model.network, "set_repeat_intercept", lambda value: None)
    results: list[Any] = []  # the epoch's own, then those of the search
    evaluate = trainer.evaluate

    def kept(*given: Any, **how: Any) -> Any:
        results.append(evaluate(*given, **how))
        return results[-1]

    monkeypatch.setattr(trainer, "evaluate", kept)
    trainer.fit(*loaders[:2])
    assert len(results) == 4
    assert results[1] == results[2] == results[3]
    assert trainer.best_valid_result == results[0]


@given(peak=st.floats(-20, 20), flat=st.floats(0, 3))
def test_the_best_shift_is_found_from_0(peak: float, flat: float) -> None:
    """Scores with one summit, of which some are a plain."""
    asked: list[float] = []

    def score_of(shift: float) -> float:
        asked.append(shift)
        return -max(abs(shift - peak), flat)

    shift = best_shift(score_of)
    assert len(asked) == len(set(asked)) <= 16
    assert score_of(shift) >= score_of(0.0)
    if abs(peak) <= LARGEST:
        assert abs(shift - peak) <= max(flat, SMALLEST)
    if abs(peak) <= flat:
        assert shift == 0


def test_what_nothing_depends_on_is_left() -> None:
    asked: list[float] = []
    assert best_shift(lambda shift: asked.append(shift) or 0.5) == 0  # type: ignore[func-returns-value]
    assert asked == [0.0, 1.0, -1.0]


def test_without_it_nothing_is_loaded_and_nothing_added(tmp_path: Path) -> None:
    for changes in ({"repeat_bias": "none"}, {"use_mapper": False}):
        trainer, (train, _, test) = trainer_of(tmp_path / str(len(changes)), **changes)
        assert trainer.model.network.shared_repeat_bias is None
        rows = next(iter(test))[0]
        assert not [name for name in rows.interaction if name.startswith("seen_")]
        assert not [name for name in next(iter(train)).interaction if name.startswith("seen_")]
        assert trainer.model.states(rows).repeat_bias is None


def write_users(folder: Path, again: bool, come_back: int = 0) -> Path:
    """60 users of 10 items out of 40: new ones each time, or always the same two.

    The last ``come_back`` are any of the user's earlier ones.
    """
    generator = torch.Generator().manual_seed(4)
    rows = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(60):
        items: list[Any] = torch.randperm(40, generator=generator).tolist()
        items = (items[:2] * 5) if again else items[:10]
        if come_back:
            chosen = torch.randint(10 - come_back, (come_back,), generator=generator)
            items[-come_back:] = [items[place] for place in chosen]
        rows += [f"u{user}\ti{item}\t{step}" for step, item in enumerate(items)]
    path = folder / "users" / "users.inter"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path
