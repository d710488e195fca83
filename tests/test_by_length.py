"""Batches of any lengths: groups change nothing but the time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from data_files import write_inter
from hypothesis import given
from hypothesis import strategies as st
from small import trainer_of
from torch import Tensor

from recbole_fofa.model import by_length as module
from recbole_fofa.model.backbone import BACKBONES
from recbole_fofa.model.batch import noise_of_rows
from recbole_fofa.model.by_length import by_length

DRY = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "keep_bias": 0.0}
CASES: dict[str, dict[str, Any]] = {
    **{backbone: {"backbone": backbone} for backbone in BACKBONES},
    "budgets": {"budget_aware": True},
    "static": {"use_controller": False, "use_mapper": False},
    "full": {"mapper_form": "full"},
    "mapper_dropout": {"mapper_dropout": 0.5},
    "pairs": {"loss_type": "BPR"},
    "prefixes": {"train_regime": "prefix"},
    "DUET": {"model": "DUET"},
}


def write_histories(folder: Path, lengths: list[int]) -> Path:
    """Users with as many interactions as ``lengths`` says."""
    rows = [
        (f"u{user}", f"i{(user * 7 + step) % 40}", step)
        for user, length in enumerate(lengths)
        for step in range(length)
    ]
    return write_inter(folder, "histories", rows) / "histories.inter"


@given(lengths=st.lists(st.integers(0, 60), min_size=1, max_size=40), worth=st.integers(1, 200))
def test_each_row_is_run_once_among_its_like(lengths: list[int], worth: int) -> None:
    groups: list[list[int]] = []

    def run(rows: Tensor) -> tuple[Tensor, Tensor]:
        groups.append([lengths[row] for row in rows.tolist()])
        return rows, rows * 10

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module.WORTH_A_GROUP, "cpu", worth)
        first, second = by_length(torch.tensor(lengths), run)
    assert first.tolist() == list(range(len(lengths)))
    assert second.tolist() == [10 * row for row in first.tolist()]
    if len(groups) > 1:
        assert all(max(group) * len(group) >= worth for group in groups)
    if worth == 1:
        assert all(max(group) < 2 * max(1, min(group)) or min(group) == 0 for group in groups)


def test_noise_of_rows_is_drawn_once() -> None:
    calls = []

    def draw(like: Tensor) -> Tensor:
        calls.append(like.shape)
        return torch.arange(10.0).view(5, 2)

    of = noise_of_rows(draw, 5)
    assert of(torch.tensor([4, 0]))(torch.empty(2, 2)).tolist() == [[8, 9], [0, 1]]
    assert of(torch.tensor([1]))(torch.empty(1, 2)).tolist() == [[2, 3]]
    assert calls == [(5, 2)]


@pytest.mark.parametrize("name", CASES)
def test_groups_change_neither_loss_nor_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lengths = [4, 5, 7, 9, 12, 16, 20, 24, 30] * 3
    changes = {**DRY, **CASES[name], "train_batch_size": 64, "MAX_ITEM_LIST_LENGTH": 16}
    dataset = str(write_histories(tmp_path, lengths))
    trainer, (train, *_) = trainer_of(
        tmp_path, changes.pop("model", None), dataset=dataset, **changes
    )
    model, batch = trainer.model.train(), next(iter(train))
    found = {}
    for worth in (1, 1 << 30):
        monkeypatch.setitem(module.WORTH_A_GROUP, "cpu", worth)
        torch.manual_seed(5)
        model.zero_grad()
        losses = model.calculate_loss(batch)
        sum(losses).backward()
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        found[worth] = [float(loss) for loss in losses], gradients
    (losses, gradients), (expected, wanted) = found.values()
    assert len(list(module._groups(batch["item_length"]))) == 1
    monkeypatch.setitem(module.WORTH_A_GROUP, "cpu", 1)
    assert len(list(module._groups(batch["item_length"]))) > 1
    assert losses == pytest.approx(expected, rel=1e-5)
    assert gradients.keys() == wanted.keys()
    for part, gradient in gradients.items():
        assert torch.allclose(gradient, wanted[part], rtol=1e-3, atol=1e-6), part


def test_a_batch_holds_windows_of_all_lengths(tmp_path: Path) -> None:
    """Each step follows users of all lengths, not those of one."""
    dataset = str(write_histories(tmp_path, [4] * 60 + [12] * 20))
    _, (train, *_) = trainer_of(tmp_path, dataset=dataset, train_batch_size=16)
    spans = [int(batch["item_length"].max() - batch["item_length"].min()) for batch in train]
    assert min(spans[:-1]) >= 3
