"""Hooks: called in order, from a config file, and what the shipped ones do."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from small import cycle_settings, known_to, trainer_of

from recbole_fofa.errors import ConfigError
from recbole_fofa.quick_start import checked_config, run_recbole_fofa
from recbole_fofa.settings import ForwardOFASettings
from recbole_fofa.trainer.hooks import Hook, Step
from recbole_fofa.trainer.monitors import collapse_message, distribution, is_collapsed


class Witness(Hook):
    """Writes down what it is called with."""

    calls: ClassVar[list[Any]] = []

    def on_train_start(self, trainer: Any) -> None:
        Witness.calls = ["start"]

    def on_epoch_start(self, trainer: Any, epoch: int) -> None:
        Witness.calls.append(("epoch", epoch))

    def on_step_end(self, trainer: Any, step: Step) -> None:
        assert any(p.grad is not None for p in trainer.model.parameters())
        Witness.calls.append(("step", step.epoch, step.number))

    def on_epoch_end(self, trainer: Any, epoch: int) -> Mapping[str, float]:
        Witness.calls.append(("end", epoch))
        return {"witnessed": epoch + 0.5}

    def on_evaluation_end(
        self, trainer: Any, epoch: int, result: Mapping[str, float]
    ) -> Mapping[str, float]:
        Witness.calls.append(("evaluated", epoch))
        return {"seen": result["ndcg@10"]}


class Demanding(Hook):
    def __init__(self, something: int) -> None:
        pass


def records(tmp_path: Path) -> list[dict[str, Any]]:
    (path,) = (tmp_path / "out" / "saved").glob("*.epochs.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("model", ["ForwardOFA", "SASRec"])
def test_own_hook_by_its_import_path(tmp_path: Path, model: str) -> None:
    settings = cycle_settings(tmp_path, hooks=["test_hooks.Witness"])
    run_recbole_fofa(model, config_dict=known_to(model, settings))
    calls = Witness.calls
    assert calls[:3] == ["start", ("epoch", 0), ("step", 0, 1)]
    n_steps = sum(call[:2] == ("step", 0) for call in calls)
    assert n_steps > 1
    expected = ["start"]
    for epoch in (0, 1):
        expected += [("epoch", epoch), *(("step", epoch, 1 + i) for i in range(n_steps))]
        expected += [("end", epoch), ("evaluated", epoch)]
    assert [c for c in calls if c[:2] != ("step", 1)] == [
        c for c in expected if c[:2] != ("step", 1)
    ]
    lines = records(tmp_path)
    assert [(line["epoch"], line["phase"]) for line in lines] == [
        (0, "train"), (0, "valid"), (1, "train"), (1, "valid")
    ]  # fmt: skip
    assert [line["witnessed"] for line in lines if line["phase"] == "train"] == [0.5, 1.5]
    assert all(line["seen"] == line["ndcg@10"] for line in lines if line["phase"] == "valid")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no_such_module.Hook", "ModuleNotFoundError"),
        ("test_hooks.Nothing", "AttributeError"),
        ("test_hooks.Path", "not a class derived from"),
        ("test_hooks.Demanding", "something"),
        ("Witness", "ValueError"),
    ],
)
def test_hook_that_cannot_be_made_is_told_before_any_data(
    tmp_path: Path, path: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as error:
        checked_config(config_dict=cycle_settings(tmp_path, hooks=[path], topk=[10, 99999]))
    assert len(error.value.faults) == 2
    assert any(path in fault for fault in error.value.faults)


def test_warm_ups_freeze_and_release(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(
        tmp_path, epochs=3, controller_warmup_epochs=2, mapper_warmup_epochs=1
    )
    moved, structures = [], []
    for epoch in range(3):
        before = values_of_parts(trainer)
        trainer._train_epoch(loaders[0], epoch)
        moved.append(moved_parts(before, values_of_parts(trainer)))
        trainer.model.eval()
        structures.append(trainer.model.structures(next(iter(loaders[2]))[0])[0])
    assert moved == [{"base"}, {"base", "mapper"}, {"base", "mapper", "controller"}]
    assert structures[0].all() and structures[1].all()


def test_mapper_dropout_gives_some_users_the_base_and_takes_nothing_in_evaluation(
    tmp_path: Path,
) -> None:
    """On average the rate; who they are is drawn anew for each batch."""
    trainer, _ = trainer_of(tmp_path, mapper_dropout=0.75)
    model, seen = trainer.model.train(), []
    for _ in range(50):
        seen.append(model._changed(60))
    changed = torch.stack(seen)
    assert set(changed.unique().tolist()) == {0.0, 1.0} and changed.std(0).min() > 0
    assert changed.mean().item() == pytest.approx(0.25, abs=0.04)  # five standard deviations
    model.share_base = True
    assert model._changed(60) is None
    model.share_base = False
    assert model.eval()._changed(60) is None


def test_checkpoint_of_a_warm_up_is_tested_as_it_was_validated(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path, epochs=1, controller_warmup_epochs=1)
    trainer.fit(*loaders[:2])
    trainer.model.keep_all = False
    trainer.evaluate(loaders[2])
    assert trainer.model.keep_all is True


def test_kept_all_within_the_budget(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(
        tmp_path, n_layers=4, budget_aware=True, budget=0.5, controller_warmup_epochs=9
    )
    trainer._train_epoch(loaders[0], 0)
    trainer.model.eval()
    structure, _ = trainer.model.structures(next(iter(loaders[2]))[0])
    assert (structure.sum(1) == 2).all()


def test_alternating_steps_move_one_part_at_a_time(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path, alternate_steps=True, hooks=["test_hooks.Moves"])
    Moves.parts = []
    for hook in trainer.hooks:
        hook.on_train_start(trainer)
    trainer.optimizer.register_step_post_hook(trainer._after_step)
    trainer._train_epoch(loaders[0], 0)
    assert Moves.parts[0] == {"controller"}
    assert all(len(parts & {"controller"}) == len(parts) for parts in Moves.parts[::2])
    assert all("controller" not in parts and "mapper" in parts for parts in Moves.parts[1::2])


class Moves(Hook):
    """Which parts each step has moved."""

    parts: ClassVar[list[set[str]]] = []

    def on_train_start(self, trainer: Any) -> None:
        self.before = values_of_parts(trainer)

    def on_step_end(self, trainer: Any, step: Step) -> None:
        now = values_of_parts(trainer)
        Moves.parts.append(moved_parts(self.before, now))
        self.before = now


def values_of_parts(trainer: Any) -> dict[str, torch.Tensor]:
    network = trainer.model.network
    parts = {"controller": network.controller, "mapper": network.mapper, "base": network.base}
    return {
        name: torch.cat([p.detach().flatten() for p in part.parameters()]).clone()
        for name, part in parts.items()
    }


def moved_parts(before: dict[str, torch.Tensor], now: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in now.items() if (value != before[name]).any()}


def test_each_part_has_its_learning_rate(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(
        tmp_path,
        learning_rate=0.01,
        controller_learning_rate=0.001,
        mapper_learning_rate=0.002,
        learning_rate_decay=0.5,
    )
    trainer._train_epoch(loaders[0], 2)
    rates = {group["part"]: group["lr"] for group in trainer.optimizer.param_groups}
    assert rates == pytest.approx({"rest": 0.0025, "controller": 0.00025, "mapper": 0.0005})
    grouped = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in trainer.model.parameters()}
    assert len(grouped) == len(list(trainer.model.parameters()))


@pytest.mark.parametrize("warmup", [0.0, 1.5])
def test_learning_rate_rises_step_by_step(tmp_path: Path, warmup: float) -> None:
    trainer, (train, valid, _) = trainer_of(
        tmp_path,
        epochs=3,
        learning_rate=0.01,
        learning_rate_decay=0.5,
        learning_rate_warmup_epochs=warmup,
    )
    found: list[float] = []
    expected: list[float] = []

    def watch(optimizer: Any, *_: Any) -> None:
        done = trainer._epoch * trainer.n_steps + trainer._step
        risen = min(1.0, done / (warmup * trainer.n_steps)) if warmup else 1.0
        found.append(optimizer.param_groups[0]["lr"])
        expected.append(0.01 * 0.5**trainer._epoch * risen)

    trainer.optimizer.register_step_pre_hook(watch)
    trainer.fit(train, valid)
    assert len(found) > 12
    assert found == pytest.approx(expected)


def test_distribution_of_structures() -> None:
    structure = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    soft = torch.tensor([[0.9, 0.6], [0.8, 0.3], [0.8, 0.3], [0.2, 0.1]], dtype=torch.float64)
    found = distribution(structure, soft)
    assert found["structures"] == 3
    assert found["entropy"] == pytest.approx(1.5)
    assert (found["all kept"], found["none kept"]) == (0.25, 0.25)
    assert (found["kept 0"], found["kept 1"]) == (0.75, 0.25)
    assert found["soft-hard gap"] == pytest.approx((0.1 + 0.4 + 2 * (0.2 + 0.3) + 0.2 + 0.1) / 8)


@pytest.mark.parametrize(
    ("changes", "soft", "named"),
    [
        ({"structure_weight": 1000.0, "target_keep_rate": 0.75}, 0.76, r"lower structure_weight"),
        ({"structure_weight": 0.0}, 0.99, r"raise structure_weight \(0.0\)"),
        ({}, 0.1, r"controller_warmup_epochs \(0\)"),
    ],
)
def test_collapse_message_names_the_setting(
    changes: dict[str, Any], soft: float, named: str
) -> None:
    structure, probabilities = torch.ones(50, 2), torch.full((50, 2), soft)
    assert is_collapsed(structure)
    message = collapse_message(structure, probabilities, ForwardOFASettings(**changes), 3)
    assert "50 of 50 users get the structure 11" in message
    assert re.search(named, message)


def test_what_a_budget_asks_for_is_no_collapse(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the whole budget all blocks are wanted; with half of it, one pattern is a collapse."""
    for budget, n_warnings in ((None, 0), (0.5, 1)):
        caplog.clear()
        trainer, loaders = trainer_of(
            tmp_path, epochs=1, budget_aware=True, budget=budget, keep_bias=60.0, n_layers=2
        )
        with caplog.at_level(logging.WARNING):
            trainer.fit(*loaders[:2], saved=False)
        found = [r.getMessage() for r in caplog.records if "structure collapse" in r.getMessage()]
        assert len(found) == n_warnings
        assert all("target 0.5" in message for message in found)


def test_a_block_alone_is_no_collapse(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is always kept."""
    trainer, loaders = trainer_of(tmp_path, epochs=1, n_layers=1)
    with caplog.at_level(logging.WARNING):
        trainer.fit(*loaders[:2], saved=False)
    assert "structure collapse" not in caplog.text


def test_one_user_or_two_structures_are_no_collapse() -> None:
    assert not is_collapsed(torch.ones(1, 2))
    assert not is_collapsed(torch.tensor([[1.0, 1.0], [1.0, 0.0]]))


def test_absurd_structure_weight_warns_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = cycle_settings(tmp_path, epochs=3, structure_weight=1e4, learning_rate=0.01)
    with caplog.at_level(logging.WARNING):
        run_recbole_fofa(config_dict={**settings, "quiet": False})
    warnings = [r.getMessage() for r in caplog.records if "structure collapse" in r.getMessage()]
    assert len(warnings) == 1
    assert "lower structure_weight (10000.0)" in warnings[0]


def test_watching_changes_nothing(tmp_path: Path) -> None:
    results = []
    for watched in (True, False):
        torch.manual_seed(2)
        trainer, loaders = trainer_of(tmp_path, epochs=2)
        if not watched:
            trainer.hooks = [h for h in trainer.hooks if type(h).__name__ != "StructureMonitor"]
        torch.manual_seed(3)
        trainer.fit(*loaders[:2], saved=False)
        results.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    assert torch.equal(results[0], results[1])
