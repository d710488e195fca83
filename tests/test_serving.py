"""Lists for anyone's history, without the data set, equal to the trained model's."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ring_bundle import FIXTURE_IS_READ_ONLY, N_ITEMS, TOKENS, bundle_of
from small import trainer_of

from recbole_fofa import load
from recbole_fofa.errors import CheckpointError, ConfigError, DataError
from recbole_fofa.serving.from_training import write_bundle
from recbole_fofa.serving.recommend import Recommender, _best


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("ForwardOFA", {"n_layers": 3, "keep_bias": 0.0, "adapt_seq_length": 12}),
        ("ForwardOFA", {"budget_aware": True, "budget": 0.7}),
        ("DUET", {}),
        ("SASRec", {}),
        ("GRU4Rec", {}),
        ("NARM", {}),
    ],
)
def test_lists_are_those_of_the_trained_model(
    tmp_path: Path, model: str, changes: dict[str, Any]
) -> None:
    """The same scores as in evaluation, for the same histories; twelve items each."""
    trainer, (train, _, test) = trainer_of(tmp_path, model, epochs=1, **changes)
    trainer.fit(train, saved=False)
    dataset = train._dataset
    write_bundle(tmp_path / "bundle", trainer.model, trainer.config, dataset, {})
    interaction = next(iter(test))[0]
    trainer.model.eval()
    with torch.no_grad():
        scores = trainer.model.full_sort_predict(interaction).view(len(interaction), -1)
    scores[:, 0] = -torch.inf
    everything = test._dataset.histories
    histories = [
        [dataset.field2id_token[dataset.iid_field][item] for item in row]
        for row in (
            everything.items[everything.users == user][:-1] for user in interaction["user_id"]
        )
    ]
    shutil.rmtree(tmp_path / "data")
    found = load(tmp_path / "bundle", device="cpu").recommend(histories, N_ITEMS)
    for own, answer in zip(scores, found, strict=True):
        tokens = dataset.field2id_token[dataset.iid_field]
        expected = {tokens[item]: float(own[item]) for item in range(1, N_ITEMS + 1)}
        assert dict(zip(answer.items, answer.scores, strict=True)) == pytest.approx(
            expected, abs=2e-5
        )
        assert answer.scores == sorted(answer.scores, reverse=True)
        assert (answer.structure is None) == (model != "ForwardOFA")


histories_of_tokens = st.lists(
    st.lists(st.sampled_from([*TOKENS, "i99", 3, "[PAD]", ""]), max_size=20), max_size=8
)


@FIXTURE_IS_READ_ONLY
@given(histories=histories_of_tokens, k=st.integers(1, 20), masked=st.booleans())
def test_alone_and_together_give_the_same(
    recommender: Recommender, histories: list[list[Any]], k: int, masked: bool
) -> None:
    together = recommender.recommend(histories, k, mask_history=masked)
    assert len(together) == len(histories)
    for history, answer in zip(histories, together, strict=True):
        alone = recommender.recommend([history], k, mask_history=masked)[0]
        assert alone.scores == pytest.approx(answer.scores, abs=1e-5)
        assert (alone.structure, alone.n_unknown) == (answer.structure, answer.n_unknown)
        known = [token for token in history if token in TOKENS]
        assert answer.n_unknown == len(history) - len(known)
        assert answer.source == ("model" if known else "popularity")
        left = N_ITEMS - (len(set(known)) if masked else 0)
        assert len(answer.items) == len(set(answer.items)) == min(k, left)
        assert set(answer.items) <= set(TOKENS) and np.isfinite(answer.scores).all()
        assert not (masked and set(answer.items) & set(known))


def test_only_the_newest_items_of_a_long_history_are_read(recommender: Recommender) -> None:
    """All but very old ones count as had before; those are the same here."""
    newest = ["i3", "i5", "i7", "i9", "i11", "i13", "i0", "i2"]
    short, long = recommender.recommend([[*TOKENS, *newest], [*TOKENS * 100, *newest]], 5)
    assert short.scores == pytest.approx(long.scores, abs=1e-6)
    assert replace(short, scores=long.scores) == long


def test_numbers_are_tokens_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "data" / "numbers" / "numbers.inter"
    path.parent.mkdir(parents=True)
    rows = [f"{u}\t{u % 5 + step}\t{step}" for u in range(20) for step in range(6)]
    path.write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(rows) + "\n")
    recommender = load(bundle_of(tmp_path, dataset=str(path)))
    texts = recommender.recommend([["1", "2"]], 3)
    assert recommender.recommend([[1, 2]], 3) == texts
    assert recommender.recommend(np.array([[1, 2]]), 3) == texts
    assert [recommender.recommend([1, 2], 3)] == texts  # one history, one answer
    assert recommender.recommend([], 3) == []


def test_a_column_of_histories_may_have_any_labels(recommender: Recommender) -> None:
    histories = [["i1", "i2"], ["i3"]]
    column = pd.Series(histories, index=["u7", "u8"])
    assert recommender.recommend(column, 3) == recommender.recommend(histories, 3)


@given(
    rows=st.integers(1, 4).flatmap(
        lambda n: st.lists(
            st.lists(st.sampled_from([0.0, 1.0, 2.0, -np.inf]), min_size=40, max_size=40),
            min_size=n,
            max_size=n,
        )
    ),
    k=st.integers(0, 40),
)
def test_of_equal_scores_the_lower_number_is_first(rows: list[list[float]], k: int) -> None:
    scores = np.array(rows, dtype=np.float32)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    for row, own, found in zip(scores, expected, _best(scores, k), strict=True):
        n_finite = int(np.isfinite(row[own]).sum())
        assert found[:n_finite].tolist() == own[:n_finite].tolist()
        assert not np.isfinite(row[found[n_finite:]]).any()


@pytest.mark.parametrize(
    ("histories", "said"),
    [
        ([["i1"], "i2"], "history 1 must be a list of item tokens, not 'i2'"),
        ([[1.5]], "history 0 holds 1.5"),
        ([[None]], "history 0 holds None"),
        ([[True]], "history 0 holds True"),
        ([["i1"], 7], "history 1 must be a list"),
    ],
)
def test_what_is_no_history_is_refused(recommender: Recommender, histories: Any, said: str) -> None:
    with pytest.raises(DataError) as caught:
        recommender.recommend(histories)
    assert said in str(caught.value)


def test_candidates(recommender: Recommender) -> None:
    with pytest.warns(UserWarning, match="1 of 4 candidates are unknown") as caught:
        answers = recommender.recommend([["i1"], []], 10, candidates=["i4", "i2", "i4", "new"])
    assert [warning.filename for warning in caught] == [__file__]
    assert [sorted(answer.items) for answer in answers] == [["i2", "i4"]] * 2
    everything = recommender.recommend([["i1"]], N_ITEMS)[0]
    scores = dict(zip(everything.items, everything.scores, strict=True))
    assert answers[0].scores == pytest.approx(sorted((scores["i4"], scores["i2"]), reverse=True))
    with pytest.warns(UserWarning, match="1 of 1 candidates"):
        assert recommender.recommend([["i1"]], 5, candidates=["new"])[0].items == []


def test_a_profile_limits_structures(bundle: Path, tmp_path: Path) -> None:
    recommender = load(bundle)
    for head in recommender.model.network.controller.head.parameters():
        torch.nn.init.ones_(head)  # keep everything, or drop it: both margins are equal
    with torch.no_grad():
        recommender.model.network.controller.head.bias[1::2] += 5.0
    macs = recommender.model.network.block_macs
    profile = tmp_path / "tiny.yaml"
    profile.write_text(
        f"name: tiny\nmax_macs: {int(1.5 * macs[0] + 1000)}\nmax_payload_bytes: 10000000\n"
        "max_memory_bytes: 100000000\nprecision: fp32\n"
    )
    free, limited = (
        recommender.recommend([["i1", "i3"]], 3, profile=name)[0].structure
        for name in (None, str(profile))
    )
    assert free == "111" and limited.count("1") == 1
    for n in range(1, 4):
        recommender.recommend([["i1"]], 3, profile=str(profile), candidates=TOKENS[:n])
    assert len(recommender._limits) == 4
    assert not any(info.items for info in recommender._limits.values())


def test_faults_of_a_call(bundle: Path, tmp_path: Path) -> None:
    recommender = load(bundle)
    for k in (0, -1, 2.5, True):
        with pytest.raises(ConfigError, match="k must be"):
            recommender.recommend([["i1"]], k)
    with pytest.raises(ConfigError, match="profile"):
        recommender.recommend([["i1"]], profile="nosuch")
    with pytest.raises(ConfigError, match="device must be"):
        load(bundle, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no GPU"):
            load(bundle, device="cuda")
    with pytest.raises(CheckpointError, match="no bundle in"):
        load(tmp_path)
    checkpoint = next(path for path in bundle.parent.glob("*.pth"))
    with pytest.raises(CheckpointError, match="bundle --checkpoint"):
        load(checkpoint)


def test_histories_may_be_anything_that_gives_them(
    recommender: Recommender, tmp_path: Path
) -> None:
    histories = [["i1"], ["i2", "i3"], []]
    expected = recommender.recommend(histories, 3)
    assert recommender.recommend((one for one in histories), np.int64(3)) == expected
    assert recommender.recommend(map(tuple, histories), 3) == expected
    with pytest.raises(DataError, match="give the values alone"):
        recommender.recommend({"anna": ["i1"]})
    profile = tmp_path / "free.yaml"
    profile.write_text("precision: fp32\n")
    assert recommender.recommend(["i1"], 3, profile=profile).items == expected[0].items


def test_a_model_without_structures_has_no_profiles(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SASRec has no structures"):
        load(bundle_of(tmp_path, "SASRec", epochs=1)).recommend([["i1"]], profile="low")
