"""Golden numbers: the maths must not drift. Weights and inputs come from sines, not from a seed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small import small_network

from recbole_fofa.model.cross_entropy import cross_entropy
from recbole_fofa.model.losses import (
    bayesian_personalized_ranking,
    binary_cross_entropy,
    structure_term,
)
from recbole_fofa.model.structure import sample_structure


def waves(*shape: int, phase: float = 0.0) -> torch.Tensor:
    """A fixed pattern between -1 and 1."""
    size = int(torch.Size(shape).numel())
    return torch.sin(torch.arange(size) * 0.7 + phase).view(shape)


def fill(network: torch.nn.Module) -> None:
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.copy_(0.3 * waves(*parameter.shape, phase=float(number)))


GOLDEN = {
    ("sasrec", "full"): [-0.279364, -0.150216, 0.022446, -0.038604],
    ("sasrec", "residual"): [-0.466048, -0.350623, 0.114656, -0.038604],
    ("sasrec", "low_rank"): [0.137029, 0.305088, 0.106036, -0.038604],
    ("nextitnet", "full"): [-0.912294, 0.150706, 0.878857, 1.413989],
    ("nextitnet", "residual"): [-0.971359, 0.101764, 0.844729, 1.413989],
    ("nextitnet", "low_rank"): [-1.005547, 0.191891, 0.790383, 1.413989],
    ("gru4rec", "full"): [-0.19547, 0.141353, 0.093218, 1.107247],
    ("gru4rec", "residual"): [0.04504, 0.319249, 0.317253, 1.107247],
    ("gru4rec", "low_rank"): [0.346527, -0.192709, 0.182454, 1.107247],
    ("fmlprec", "full"): [0.049993, 0.151798, 0.031538, -0.038604],
    ("fmlprec", "residual"): [0.114451, -0.210134, 0.079375, -0.038604],
    ("fmlprec", "low_rank"): [-0.149309, -0.089185, 0.27447, -0.038604],
}


BIAS = [-0.3134, -0.174436, 0.049183, -0.420716, -0.195414, 0.123961]


@pytest.mark.parametrize(("backbone", "form"), GOLDEN)
def test_network(backbone: str, form: str) -> None:
    without = {"output_bias": False, "repeat_bias": "none"}
    network = small_network(backbone=backbone, mapper_form=form, **without)
    fill(network)
    x, behaviour = waves(2, 6, 8), waves(2, 9, 8, phase=2.0)
    adaptation = network.adapt(behaviour, torch.tensor([9, 4]))
    output = network(x, adaptation)
    found = [
        output[0, 5, 0].item(),
        output[1, 3, 7].item(),
        output.square().mean().item(),
        adaptation.logits.sum().item(),
    ]
    assert found == pytest.approx(GOLDEN[backbone, form], abs=2e-5)


def test_output_bias() -> None:
    """A linear map of the interest, added to every state."""
    network = small_network(repeat_bias="none")
    fill(network)
    x, behaviour = waves(2, 6, 8), waves(2, 9, 8, phase=2.0)
    adaptation = network.adapt(behaviour, torch.tensor([9, 4]))
    assert adaptation.output_bias[:, :3].flatten().tolist() == pytest.approx(BIAS, abs=2e-5)
    without = network(x, replace(adaptation, output_bias=None))
    shift = network(x, adaptation) - without
    torch.testing.assert_close(shift, adaptation.output_bias.unsqueeze(1).expand_as(shift))


def test_losses() -> None:
    hidden, table = waves(3, 4), waves(5, 4, phase=1.0)
    positive, negative = waves(3), waves(3, phase=3.0)
    found = [
        cross_entropy(hidden, torch.tensor([1, 4, 2]), table).item(),
        binary_cross_entropy(positive, negative).item(),
        bayesian_personalized_ranking(positive, negative).item(),
        structure_term(waves(3, 2, 2), 0.25).item(),
    ]
    assert found == pytest.approx([3.466135, 0.996002, 0.390062, 0.077571], abs=2e-6)


def test_gradient_of_a_sample_is_that_of_the_softmax() -> None:
    """One block, one user: d keep / d logit = p (1 - p) / temperature, at the noisy logits."""
    logits = torch.tensor([[[0.2, 0.5]]], requires_grad=True)
    torch.manual_seed(4)
    sample_structure(logits, 0.5).sum().backward()
    torch.manual_seed(4)
    noise = -torch.empty(1, 1, 2).exponential_().log()
    p = ((logits.detach() + noise) / 0.5).softmax(-1)[0, 0, 1]
    expected = (p * (1 - p) / 0.5).item()
    assert logits.grad.flatten().tolist() == pytest.approx([-expected, expected], rel=1e-5)
