"""The extractor against the recurrence that it stands for."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_fofa.model.extractor import SequenceExtractor


def step_by_step(
    extractor: SequenceExtractor, items: torch.Tensor, state: torch.Tensor
) -> torch.Tensor:
    """One user's ``[H, D]``, item after item."""
    for item in items:
        gate, candidate = extractor.read(item).chunk(2)
        z = torch.sigmoid(gate)
        state = (1 - z) * state + z * torch.tanh(candidate)
    return extractor.norm(state)


@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=5),
    started=st.booleans(),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
)
def test_equals_the_recurrence(lengths: list[int], started: bool, scale: float) -> None:
    extractor = SequenceExtractor(6, horizon=10)
    behaviour = torch.randn(len(lengths), 12, 6) * scale
    start = torch.randn(len(lengths), 6) if started else torch.zeros(len(lengths), 6)
    found = extractor(behaviour, torch.tensor(lengths), start if started else None)
    for user, length in enumerate(lengths):
        expected = step_by_step(extractor, behaviour[user, :length], start[user])
        torch.testing.assert_close(found[user], expected, atol=1e-4, rtol=1e-4)


def test_long_behaviour_stays_finite() -> None:
    extractor = SequenceExtractor(8, horizon=500)
    behaviour = (torch.randn(3, 2000, 8) * 100).requires_grad_()
    interest = extractor(behaviour, torch.tensor([2000, 1, 0]))
    interest.square().sum().backward()
    assert interest.isfinite().all() and behaviour.grad.isfinite().all()


def test_initial_state_is_remembered_over_the_horizon() -> None:
    """What the structural vector needs: half of an ordinary GRU's state is gone after one item."""
    extractor = SequenceExtractor(64, horizon=50)
    behaviour, lengths = torch.randn(1, 50, 64) * 0.02, torch.tensor([50])
    states = [extractor(behaviour, lengths, sign * torch.ones(1, 64)) for sign in (1.0, -1.0)]
    assert (states[0] - states[1]).abs().mean() > 0.1
