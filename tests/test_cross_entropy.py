"""Cross entropy in chunks: values and gradients are those of the whole matrix of scores."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from recbole_fofa.model import cross_entropy as module
from recbole_fofa.model.cross_entropy import cross_entropy


@given(
    n_targets=st.integers(1, 40),
    n_items=st.integers(2, 60),
    at_once=st.integers(1, 3000),
    scale=st.sampled_from([0.01, 1.0, 300.0]),
)
def test_equals_the_loss_over_all_scores(
    n_targets: int, n_items: int, at_once: int, scale: float
) -> None:
    hidden = (scale * torch.randn(n_targets, 8, dtype=torch.float64)).requires_grad_()
    table = torch.randn(n_items, 8, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(n_items, (n_targets,))
    expected = 3 * F.cross_entropy(hidden @ table.T, targets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module.SCORES_AT_ONCE, "cpu", at_once)
        found = 3 * cross_entropy(hidden, targets, table)
    torch.testing.assert_close(found, expected)
    gradients = torch.autograd.grad(found, (hidden, table))
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, (hidden, table)))


def test_half_precision_states_meet_a_table_in_single_precision() -> None:
    """What automatic mixed precision hands over."""
    hidden = torch.randn(5, 8, dtype=torch.bfloat16, requires_grad=True)
    table = torch.randn(9, 8, requires_grad=True)
    loss = cross_entropy(hidden, torch.randint(9, (5,)), table)
    loss.backward()
    assert loss.dtype == torch.float32 and hidden.grad.dtype == torch.bfloat16


def test_a_second_derivative_is_an_error_and_not_a_part_of_it() -> None:
    hidden = torch.randn(3, 4, requires_grad=True)
    loss = cross_entropy(hidden, torch.tensor([1, 2, 0]), torch.randn(5, 4))
    (gradient,) = torch.autograd.grad(loss.square(), hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_is_not_finite_where_scores_are_not() -> None:
    hidden = torch.full((2, 4), torch.nan, requires_grad=True)
    assert cross_entropy(hidden, torch.tensor([1, 2]), torch.ones(3, 4)).isnan()
