"""Histories, lazy prefixes and session windows: same rows as RecBole, no look into the future."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from data_files import LOAD_COL, interactions, write_inter
from hypothesis import given
from hypothesis import strategies as st
from recbole.data import data_preparation
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.trainer import Trainer
from recbole.utils import init_seed
from small import cycle_settings

from recbole_fofa.data.dataset import ADAPT_PREFIX, POSITION
from recbole_fofa.data.sequences import Histories
from recbole_fofa.data.session_loader import TARGETS, SessionLoader, draw_windows, training_ranges
from recbole_fofa.errors import DataError
from recbole_fofa.quick_start import checked_config, prepare_data, run_recbole_fofa
from recbole_fofa.registry import get_dataset_class, get_model

lengths_of_users = st.lists(st.integers(2, 30), min_size=1, max_size=8)


def loader_of(lengths: list[int], **changes: Any) -> SessionLoader:
    """Every interaction has an item of its own, so that each can be traced."""
    users = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    histories = Histories.of(users, np.arange(1, len(users) + 1))
    targets = np.flatnonzero(np.arange(len(users)) > histories.starts)
    dataset = SimpleNamespace(
        histories=histories,
        inter_feat={POSITION: torch.from_numpy(targets)},
        max_item_list_len=8,
        iid_field="item_id",
        item_list_length_field="item_length",
        item_num=len(users) + 1,
        config={"LIST_SUFFIX": "_list"},
    )
    settings = {
        "batch_size": 3,
        "session_length": 4,
        "gap": None,
        "adapt_length": 5,
        "seed": 1,
        **changes,
    }
    return SessionLoader(dataset, **settings)


@given(lengths=lengths_of_users, session_length=st.integers(1, 12), epoch=st.integers(0, 3))
def test_every_training_target_is_asked_once(
    lengths: list[int], session_length: int, epoch: int
) -> None:
    loader = loader_of(lengths, session_length=session_length)
    loader.set_epoch(epoch)
    asked = torch.cat([batch[TARGETS].flatten() for batch in loader])
    firsts = {1 + sum(lengths[:i]) for i in range(len(lengths))}
    expected = [item for item in range(1, sum(lengths) + 1) if item not in firsts]
    assert sorted(asked[asked > 0].tolist()) == expected


@given(lengths=lengths_of_users, session_length=st.integers(1, 12))
def test_no_target_reaches_its_own_context_or_adaptation(
    lengths: list[int], session_length: int
) -> None:
    loader = loader_of(lengths, session_length=session_length)
    for batch in loader:
        for row in range(len(batch)):
            inputs, targets = batch["item_id_list"][row], batch[TARGETS][row]
            first = targets[targets > 0].min()
            behaviour = batch[ADAPT_PREFIX + "item_id_list"][row]
            assert behaviour.max() < first  # adaptation reads what lies before the window
            assert (behaviour > 0).any()
            for place in torch.nonzero(targets).flatten().tolist():
                assert inputs[place] == targets[place] - 1  # the item just before
                assert inputs[: place + 1].max() < targets[place]


@given(lengths=lengths_of_users)
def test_epochs_differ_and_a_seed_repeats(lengths: list[int]) -> None:
    one, two = loader_of(lengths), loader_of(lengths)
    # Session borders of the first 40 epochs can only all be equal if nothing is drawn.
    cuts = set()
    for epoch in range(40):
        one.set_epoch(epoch)
        cuts.add(tuple(sorted(one.windows.begins.tolist())))
    assert len(cuts) > 1 or max(lengths) == 2
    one.set_epoch(2)
    two.set_epoch(2)
    for a, b in zip(one, two, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a.interaction)


def test_negatives_are_never_the_target() -> None:
    for sampling in ("uniform", "popularity"):
        for batch in loader_of([20, 3, 9], negatives=sampling):
            negatives, targets = batch["session_negatives"], batch[TARGETS]
            assert (negatives != targets).all()
            assert negatives.min() >= 1 and negatives.max() <= 32


def test_popular_negatives_come_from_training_targets() -> None:
    loader = loader_of([20, 9], negatives="popularity")
    positions = loader._dataset.inter_feat[POSITION]
    loader._dataset.inter_feat[POSITION] = positions[positions % 2 == 0]
    asked = set(loader.histories.items[positions[positions % 2 == 0].numpy()].tolist())
    drawn = loader._sample_negatives(torch.zeros(50, 10, dtype=torch.long))
    assert set(drawn.flatten().tolist()) == asked


def test_a_pause_ends_a_session() -> None:
    loader = loader_of([7])
    times = np.array([0, 1, 2, 100, 101, 102, 300.0])
    windows = draw_windows(loader.ranges, 10, np.random.default_rng(0), times, gap=50)
    assert sorted(zip(windows.begins, windows.ends, strict=True)) == [(1, 3), (3, 6), (6, 7)]


def test_training_targets_must_be_the_earliest() -> None:
    dataset = loader_of([6])._dataset
    dataset.inter_feat[POSITION] = torch.tensor([1, 2, 4])
    with pytest.raises(DataError, match="earliest interactions"):
        training_ranges(dataset)


def write_shuffled(folder: Path, n_items: int = 7) -> Path:
    """Users and items as they fall, at times that stay apart in float32."""
    rows = [
        [user, item, 2 * time] for time, (user, item, _) in enumerate(interactions(n_items=n_items))
    ]
    return write_inter(folder, "shuffled", np.random.default_rng(3).permutation(rows).tolist())


LATER = {"order": "TO", "mode": "full"}


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("SASRec", {}),
        ("SASRec", {"rm_dup_inter": "last"}),
        ("SASRec", {"eval_args": {**LATER, "group_by": "none", "split": {"RS": [0.7, 0.2, 0.1]}}}),
        ("SASRec", {"eval_args": {**LATER, "group_by": "user", "split": {"TS": [0.7, 0.2, 0.1]}}}),
        ("BPR", {"rm_dup_inter": "first"}),
        ("BPR", {"eval_args": {**LATER, "group_by": "none", "split": {"RS": [0.7, 0.2, 0.1]}}}),
        ("BPR", {"eval_args": {**LATER, "group_by": "user", "split": {"RS": [0.7, 0.2, 0.1]}}}),
        ("BPR", {"eval_args": {**LATER, "split": {"LS": "valid_and_test"}}}),
    ],
)
def test_splits_are_recboles(tmp_path: Path, model: str, changes: dict[str, Any]) -> None:
    """The same rows in the same order, under the same numbers: a seed gives RecBole's result."""
    given_settings = {"MAX_ITEM_LIST_LENGTH": 5, "topk": 3, "valid_metric": "MRR@3", **changes}
    config = checked_config(model, str(write_shuffled(tmp_path)), config_dict=given_settings)
    own = get_dataset_class(config)
    assert own is not None
    init_seed(1, True)
    ours = own(config).build()
    init_seed(1, True)
    stock = (SequentialDataset if model == "SASRec" else Dataset)(config).build()
    for part, expected in zip(ours, stock, strict=True):
        for field in ("user_id", "item_id"):
            assert list(part.field2id_token[field]) == list(expected.field2id_token[field])
        rows, their_rows = part[np.arange(len(part))], expected[np.arange(len(expected))]
        for field in their_rows.columns:
            assert torch.equal(rows[field], their_rows[field]), field


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_a_seed_gives_recboles_result(tmp_path: Path, model: str) -> None:
    """To the last digit, where float32 tells all times of a user apart."""
    small = {"hidden_size": 16, "inner_size": 16} if model == "SASRec" else {"embedding_size": 16}
    given_settings = {
        **{"dataset": str(write_shuffled(tmp_path, 30)), "epochs": 2, "topk": 3, **small},
        **{"valid_metric": "MRR@3", "load_col": LOAD_COL, "output_dir": str(tmp_path / "out")},
    }
    ours = run_recbole_fofa(model, config_dict=given_settings, saved=False)
    config = checked_config(model, config_dict=given_settings)
    init_seed(config["seed"], config["reproducibility"])
    stock = (SequentialDataset if model == "SASRec" else Dataset)(config)
    train, valid, test = data_preparation(config, stock)
    init_seed(config["seed"], config["reproducibility"])
    trainer = Trainer(config, get_model(model)(config, train._dataset))
    trainer.fit(train, valid, saved=False)
    assert ours["test_result"] == trainer.evaluate(test, load_best_model=False)
    assert ours["best_valid_result"] == trainer.best_valid_result


def test_order_is_that_of_the_float64_time(tmp_path: Path) -> None:
    """Eight events one second apart, newest first: float32 cannot tell them apart."""
    folder = tmp_path / "close"
    folder.mkdir()
    rows = [f"u{u}\ti{7 - n}\t{1700000007 - n}" for u in range(4) for n in range(8)]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    (folder / "close.inter").write_text("\n".join([header, *rows]) + "\n")
    settings = {"dataset": str(folder), "quiet": True, "topk": [5], "valid_metric": "MRR@5"}
    _, _, test = prepare_data(checked_config(config_dict=settings))
    row = next(iter(test))[0]
    names = test._dataset.id2token("item_id", row["item_id_list"][0, :7].numpy())
    assert list(names) == [f"i{n}" for n in range(7)]
    assert test._dataset.id2token("item_id", row["item_id"].numpy())[0] == "i7"


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_no_part_of_a_global_split_is_later_than_the_next(tmp_path: Path, model: str) -> None:
    """Users take turns every second, which float32 rounds to 128 of them."""
    rows = [[f"u{n % 10}", f"i{n % 7}", 1_700_000_000 + n] for n in range(400)]
    settings = {
        "eval_args": {**LATER, "group_by": "none", "split": {"RS": [0.7, 0.2, 0.1]}},
        **{"topk": 3, "valid_metric": "MRR@3", "seed": 3},
    }
    config = checked_config(model, str(write_inter(tmp_path, "close", rows)), config_dict=settings)
    own = get_dataset_class(config)
    assert own is not None
    parts = own(config).build()
    users = np.concatenate([part.inter_feat["user_id"].numpy() for part in parts])
    expected = [1 + n % 10 for n in range(10 if model == "SASRec" else 0, 400)]
    assert users.tolist() == expected  # sequential models have no target in a user's first item


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_rows_without_an_id_are_dropped_and_no_others(tmp_path: Path, model: str) -> None:
    rows = interactions()
    rows[3][0], rows[100][1], rows[-1][1] = "", "", ""
    folder = write_inter(tmp_path, "blank", rows)
    config = checked_config(model, str(folder), config_dict={"MAX_ITEM_LIST_LENGTH": 5})
    own = get_dataset_class(config)
    assert own is not None
    whole = own(config)
    users = whole.id2token("user_id", whole.inter_feat["user_id"].to_numpy())
    items = whole.id2token("item_id", whole.inter_feat["item_id"].to_numpy())
    kept = [row[:2] for number, row in enumerate(rows) if number not in (3, 100, len(rows) - 1)]
    assert list(map(list, zip(users, items, strict=True))) == kept


def test_empty_part_stops_before_training(tmp_path: Path) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    rows = [f"u{u}\ti{u + n}\t{n}" for u in range(12) for n in range(2)]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    (folder / "two.inter").write_text("\n".join([header, *rows]) + "\n")
    config = checked_config(config_dict={"dataset": str(folder), "quiet": True})
    with pytest.raises(DataError, match=r"the valid set is empty .*valid_and_test"):
        prepare_data(config)


def test_adaptation_may_read_more_than_the_input(tmp_path: Path) -> None:
    config = checked_config(config_dict=cycle_settings(tmp_path, adapt_seq_length=10))
    _, _, test = prepare_data(config)
    row = next(iter(test))[0]
    assert row["item_id_list"].shape[1] == 8
    assert row[ADAPT_PREFIX + "item_id_list"].shape[1] == 10


def test_uniform_negatives_are_uniform_over_all_other_items(tmp_path: Path) -> None:
    config = checked_config(config_dict=cycle_settings(tmp_path, loss_type="BPR"))
    train = prepare_data(config)[0]
    targets = torch.full((20_000,), 7)
    counts = train._sample_negatives(targets).bincount(minlength=train.dataset.item_num)
    assert counts[0] == counts[7] == 0
    others = counts[[i for i in range(1, len(counts)) if i != 7]].double()
    expected = 20_000 / len(others)
    # Six standard deviations; the item after the target used to be drawn twice as often.
    assert ((others - expected).abs() < 6 * expected**0.5).all()
