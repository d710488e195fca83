"""Gradient conflict: the cosines are those of the groups' own gradients, and watching is free."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import small
import torch

from recbole_fofa.recommender.sequence_recommender import States
from recbole_fofa.trainer.conflict import SMALLEST_GROUP, group_cosines, holders


def trainer_of(tmp_path: Path, **changes: Any) -> tuple[Any, tuple[Any, ...]]:
    # Without dropout a group's gradient can be computed again.
    return small.trainer_of(tmp_path, hidden_dropout_prob=0.0, keep_bias=0.0, **changes)


@pytest.mark.parametrize(
    ("changes", "n_base", "n_mapper"),
    [
        ({"use_mapper": False}, 2, 0),
        ({"mapper_form": "full"}, 2, 2),  # biases and norms have a base
        ({"parallel_mappers": False}, 2, 1),
        ({}, 2, 2),
    ],
)
def test_holders(tmp_path: Path, changes: dict[str, Any], n_base: int, n_mapper: int) -> None:
    trainer, _ = trainer_of(tmp_path, **changes)
    kinds = [kind for kind, _ in holders(trainer.model.network)]
    assert (kinds.count("base"), kinds.count("mapper")) == (n_base, n_mapper)


@pytest.mark.parametrize("regime", ["session", "prefix"])
def test_cosines_are_those_of_the_groups_gradients(tmp_path: Path, regime: str) -> None:
    trainer, (train, *_) = trainer_of(tmp_path, use_mapper=False, train_regime=regime)
    model, batch = trainer.model.train(), next(iter(train))
    torch.manual_seed(7)
    different, same = group_cosines(model, batch)

    torch.manual_seed(7)
    adaptation = model.adapt(*model._behaviour(batch))
    codes = [tuple(row) for row in (adaptation.structure > 0).tolist()]
    gradients = []
    for code in sorted(set(codes)):
        users = torch.tensor([other == code for other in codes])
        if users.sum() < SMALLEST_GROUP:
            continue
        model.zero_grad()
        hidden = model.encode(batch[model.ITEM_SEQ], adaptation)
        model.next_item_loss(States(hidden), batch, users).backward(retain_graph=True)
        gradients.append(
            [
                torch.cat([(p.grad if p.grad is not None else p * 0).flatten() for p in part])
                for _, part in holders(model.network)
            ]
        )
    assert len(gradients) >= 2
    expected = [
        torch.cosine_similarity(a, b, dim=0)
        for one, other in combinations(gradients, 2)
        for a, b in zip(one, other, strict=True)
        if a.any() and b.any()
    ]
    assert expected
    torch.testing.assert_close(torch.stack(different["base"]), torch.stack(expected))
    assert set(different) == {"base"} and all(-1 <= float(c) <= 1 for c in same["base"])


def test_a_dropped_block_sends_nothing(tmp_path: Path) -> None:
    trainer, (train, *_) = trainer_of(tmp_path, use_mapper=False)
    model = trainer.model.train()
    with torch.no_grad():
        # The first block for nobody, the second for everybody: one structure, no pairs.
        model.network.controller.head.weight.zero_()
        model.network.controller.head.bias.copy_(torch.tensor([50.0, -50.0, -50.0, 50.0]))
    different, same = group_cosines(model, next(iter(train)))
    assert not different
    assert len(same["base"]) == 1


@pytest.mark.parametrize("changes", [{"alternate_steps": True}, {"mapper_warmup_epochs": 1}])
def test_what_is_not_trained_at_a_step_is_measured_too(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    trainer, loaders = trainer_of(tmp_path, conflict_every=1, epochs=2, **changes)
    frozen: list[list[bool]] = []
    trainer.hooks[0].on_step_end = lambda *_: frozen.append(
        [parameter.requires_grad for parameter in trainer.model.parameters()]
    )
    trainer.fit(*loaders[:2], saved=False)
    assert trainer._numbers["mapper pairs same"] > 0
    assert len({tuple(one) for one in frozen}) == 2  # something was frozen, for a time


def test_numbers_are_reported_and_measuring_changes_nothing(tmp_path: Path) -> None:
    parameters = []
    for every in (0, 1):
        trainer, loaders = trainer_of(tmp_path, conflict_every=every, epochs=2)
        torch.manual_seed(3)
        trainer.fit(*loaders[:2], saved=False)
        parameters.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    assert torch.equal(*parameters)
    numbers = trainer._numbers
    assert -1 <= numbers["mapper cosine different"] <= 1
    assert 0 <= numbers["base negative different"] <= 1
    assert numbers["base pairs same"] > 0
