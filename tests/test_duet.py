"""DUET as a baseline: what is generated, what is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small import planted_settings, trainer_of

from recbole_fofa.model.backbone import BACKBONES
from recbole_fofa.model.duet import GeneratedHead
from recbole_fofa.quick_start import run_recbole_fofa


@pytest.mark.parametrize("backbone", BACKBONES)
def test_planted_rule_is_found(tmp_path: Path, backbone: str) -> None:
    settings = planted_settings(tmp_path, backbone=backbone, learning_rate_decay=0.96)
    result = run_recbole_fofa("DUET", config_dict=settings)
    assert result["test_result"]["ndcg@10"] > 0.95


@pytest.mark.parametrize("frozen", [False, True])
def test_an_epoch_moves_all_parameters_but_a_frozen_generators(
    tmp_path: Path, frozen: bool
) -> None:
    trainer, loaders = trainer_of(tmp_path, "DUET", frozen_generator=frozen)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer._train_epoch(loaders[0], 0)
    still = {n for n, p in trainer.model.named_parameters() if torch.equal(p, before[n])}
    generators = {name for name in before if name.startswith("head.generators.")}
    assert len(generators) == 4
    # A softmax over keys does not change when all keys shift together.
    assert {name for name in still if "key_bias" not in name} == (generators if frozen else set())


def test_head_is_two_dense_layers_of_each_users_own() -> None:
    head = GeneratedHead(6)
    hidden, behaviour, lengths = torch.randn(3, 4, 6), torch.randn(3, 7, 6), torch.tensor([7, 2, 0])
    found = head(hidden, behaviour, lengths)
    layers = head.generate(behaviour, lengths)
    for user in range(3):
        y = hidden[user]
        (w1, b1), (w2, b2) = ((w[user], b[user]) for w, b in layers)
        expected = torch.tanh(y @ w1.T + b1) @ w2.T + b2
        torch.testing.assert_close(found[user], expected, atol=1e-5, rtol=1e-5)
    assert (layers[0][0][0] - layers[0][0][1]).abs().max() > 1e-3


def test_what_follows_the_behaviour_and_other_users_change_nothing() -> None:
    head = GeneratedHead(6)
    hidden, behaviour, lengths = torch.randn(3, 4, 6), torch.randn(3, 7, 6), torch.tensor([7, 2, 0])
    found = head(hidden, behaviour, lengths)
    padded = torch.cat([behaviour, torch.randn(3, 2, 6)], 1)
    padded[1, 2:] = 9.0
    torch.testing.assert_close(head(hidden, padded, lengths), found, atol=1e-5, rtol=0)
    alone = head(hidden[1:2], behaviour[1:2], lengths[1:2])
    torch.testing.assert_close(alone[0], found[1], atol=1e-5, rtol=0)


def test_generated_layers_start_like_ordinary_ones() -> None:
    head = GeneratedHead(64)
    layers = head.generate(torch.randn(8, 20, 64), torch.full((8,), 20))
    for weight, bias in layers:
        assert 0.5 / 8 < weight.std().item() < 2 / 8  # 1 / sqrt(64)
        assert bias.abs().mean().item() < 0.1
