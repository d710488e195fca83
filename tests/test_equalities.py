"""The equalities that define the method, to 1e-5, for every backbone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import SIZES, batch, small_network
from torch.func import functional_call, vmap

from recbole_fofa.model.backbone import BACKBONES
from recbole_fofa.model.network import Adaptation
from recbole_fofa.model.weights import dense_parameters

FORMS = ["full", "residual", "low_rank"]
every_form = pytest.mark.parametrize("form", FORMS)
every_backbone = pytest.mark.parametrize("backbone", list(BACKBONES))


def run(network: Any, inputs: Any, **keywords: Any) -> torch.Tensor:
    x, behaviour, lengths = inputs
    with torch.no_grad():
        return network(x, network.adapt(behaviour, lengths, **keywords))


@every_backbone
@every_form
def test_batch_equals_single_users_in_any_order(form: str, backbone: str) -> None:
    network, inputs = small_network(mapper_form=form, backbone=backbone), batch(7)
    together = run(network, inputs)
    order = torch.randperm(7)
    torch.testing.assert_close(
        run(network, tuple(value[order] for value in inputs)), together[order], atol=1e-5, rtol=0
    )
    for user in range(7):
        alone = run(network, tuple(value[user : user + 1] for value in inputs))
        torch.testing.assert_close(alone[0], together[user], atol=1e-5, rtol=0)


@every_backbone
def test_structures_differ_between_users_of_the_small_network(backbone: str) -> None:
    _, behaviour, lengths = batch(7)
    structure = small_network(backbone=backbone).adapt(behaviour, lengths).structure
    assert len(structure.unique(dim=0)) > 1


@every_backbone
@every_form
def test_per_user_parameters_equal_functional_call(form: str, backbone: str) -> None:
    """Oracle: one functional call per user, mapped over users by ``vmap``."""
    network = small_network(mapper_form=form, backbone=backbone, use_controller=False)
    x, behaviour, lengths = batch()
    adaptation = network.adapt(behaviour, lengths)
    dense = [dense_parameters(block) for block in adaptation.parameters if block]

    def one_user(
        own: torch.Tensor, bias: torch.Tensor, *blocks: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        y = network.backbone.embed(own.unsqueeze(0))
        for index, parameters in enumerate(blocks):
            y = network.backbone.apply_block(index, y, parameters)
        return network.backbone.finish(y)[0] + bias

    expected = vmap(one_user)(x, adaptation.output_bias, *dense)
    torch.testing.assert_close(network(x, adaptation), expected, atol=1e-5, rtol=0)
    called = functional_call(network, dict(network.named_parameters()), (x, adaptation))
    torch.testing.assert_close(called, expected, atol=1e-5, rtol=0)


@every_backbone
@given(kept=st.lists(st.booleans(), min_size=3, max_size=3))
def test_dropped_block_is_an_absent_block(backbone: str, kept: list[bool]) -> None:
    network = small_network(backbone=backbone)
    x, behaviour, lengths = batch()
    adaptation = network.adapt(behaviour, lengths)
    interest = network.mapper.interest(behaviour, lengths, None)
    parameters = tuple(
        network.mapper.generate(index, interest, dict(base.named_parameters()))
        for index, base in enumerate(network.base)
    )
    structure = torch.tensor(kept, dtype=torch.float32).repeat(len(x), 1)
    masked = network(x, Adaptation(structure, parameters, adaptation.logits))
    expected = network.backbone.embed(x)
    for index in [i for i, keep in enumerate(kept) if keep]:
        expected = network.backbone.apply_block(index, expected, parameters[index])
    expected = network.backbone.finish(expected)
    torch.testing.assert_close(masked, expected, atol=1e-5, rtol=0)


@every_backbone
def test_dropped_block_adds_exactly_nothing_in_training(backbone: str) -> None:
    network = small_network(backbone=backbone, hidden_dropout_prob=0.0, attn_dropout_prob=0.0)
    x, behaviour, lengths = batch()
    adaptation = network.adapt(behaviour, lengths)
    parameters = tuple(dict(base.named_parameters()) for base in network.base)
    fixed = Adaptation(adaptation.structure, parameters, adaptation.logits)
    in_eval = network(x, fixed)
    torch.testing.assert_close(network.train()(x, fixed), in_eval, atol=1e-5, rtol=0)


@every_backbone
def test_eval_is_bitwise_repeatable_and_draws_nothing(backbone: str) -> None:
    network, inputs = small_network(backbone=backbone, budget_aware=True), batch()
    before = torch.get_rng_state()
    first, second = run(network, inputs), run(network, inputs)
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


@every_backbone
def test_more_padding_changes_nothing(backbone: str) -> None:
    network = small_network(backbone=backbone)
    x, behaviour, lengths = batch()
    longer = torch.cat([behaviour, torch.randn(len(x), 4, 8)], dim=1)
    padded_input = torch.cat([x[:, :4], torch.randn(len(x), 2, 8)], dim=1)
    short = run(network, (x[:, :4], behaviour, lengths))
    long = run(network, (padded_input, longer, lengths))
    torch.testing.assert_close(long[:, :4], short, atol=1e-5, rtol=0)


@every_backbone
@given(position=st.integers(1, 5))
def test_future_item_changes_no_past_output(backbone: str, position: int) -> None:
    network = small_network(backbone=backbone)
    x, behaviour, lengths = batch()
    changed = x.clone()
    changed[:, position] = torch.randn(5, 8)
    before, after = (
        run(network, (x, behaviour, lengths)),
        run(network, (changed, behaviour, lengths)),
    )
    torch.testing.assert_close(after[:, :position], before[:, :position], atol=1e-5, rtol=0)
    assert not torch.allclose(after[:, position], before[:, position])


@every_backbone
def test_adapting_one_user_leaves_the_model_and_the_next_user_alone(backbone: str) -> None:
    network = small_network(backbone=backbone)
    x, behaviour, lengths = batch(2)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    second_alone = network.adapt(behaviour[1:], lengths[1:])
    network.adapt(behaviour[:1], lengths[:1])
    again = network.adapt(behaviour[1:], lengths[1:])
    assert torch.equal(network(x[1:], second_alone), network(x[1:], again))
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@every_backbone
def test_empty_behaviour_is_answered(backbone: str) -> None:
    network = small_network(backbone=backbone)
    x, behaviour, _ = batch()
    assert run(network, (x, behaviour, torch.zeros(5, dtype=torch.long))).isfinite().all()


@every_backbone
@every_form
def test_generated_tensors_start_like_the_backbone(form: str, backbone: str) -> None:
    network = small_network(
        mapper_form=form, backbone=backbone, hidden_size=32, inner_size=64, mapper_rank=16
    )
    behaviour, lengths = torch.randn(16, 9, 32), torch.full((16,), 9)
    parameters = network.train().adapt(behaviour, lengths).parameters
    for block, tensors in zip(network.backbone.blocks, parameters, strict=True):
        for name, value in dense_parameters(tensors or {}).items():
            spec = block.parameters[name]
            if spec.is_matrix:
                assert 0.01 < value.std().item() < 0.04, name
            else:
                centre = 1.0 if spec.init == "ones" else 0.0
                assert (value - centre).abs().max().item() < 0.02, name


@every_backbone
@every_form
def test_gradient_reaches_every_parameter_at_the_first_step(form: str, backbone: str) -> None:
    network = small_network(mapper_form=form, backbone=backbone).train()
    x, behaviour, lengths = batch(16)  # enough for each block to be kept by somebody
    weights = torch.randn(16, 6, 8)
    adaptation = network.adapt(behaviour, lengths)
    ((network(x, adaptation) * weights).sum() + adaptation.repeat_bias.sum()).backward()
    without = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    # A softmax over keys does not change when all keys shift together.
    assert [name for name in without if "key_bias" not in name] == []


def test_settings_of_ablations_leave_only_their_parts() -> None:
    assert small_network(use_controller=False).controller is None
    assert small_network(use_mapper=False).mapper is None
    assert len(small_network(parallel_mappers=False).mapper.hypernetworks) == 1
    assert len(small_network().mapper.hypernetworks) == SIZES["n_layers"]


@pytest.mark.parametrize("form", ["residual", "low_rank"])
def test_who_is_left_out_gets_the_base_and_no_output_bias(form: str) -> None:
    network = small_network(mapper_form=form, mapper_scale=1.0)
    x, behaviour, lengths = batch(4)
    decision = network.decide(behaviour, lengths)
    own = network.generate(decision)
    some = network.generate(decision, torch.tensor([1.0, 0.0, 1.0, 0.0]))
    shared = Adaptation(
        decision.structure, tuple(dict(base.named_parameters()) for base in network.base), None
    )
    found = network(x, some)
    torch.testing.assert_close(found[::2], network(x, own)[::2])
    torch.testing.assert_close(found[1::2], network(x, shared)[1::2])
    assert (found - network(x, own))[1::2].abs().amax(-1).min() > 1e-3
    torch.testing.assert_close(some.repeat_bias, own.repeat_bias)
