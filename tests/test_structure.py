"""Selection of blocks: exact, deterministic, never over budget."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_fofa.model.losses import budget_term, structure_term
from recbole_fofa.model.structure import (
    KEEP,
    all_structures,
    keep_margins,
    sample_structure,
    select_structure,
    within_budget,
)

margin_lists = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=6)


@given(margins=margin_lists, share=st.floats(0.0, 1.0), data=st.data())
def test_budgeted_selection_equals_brute_force(
    margins: list[float], share: float, data: st.DataObject
) -> None:
    macs = data.draw(st.lists(st.integers(1, 50), min_size=len(margins), max_size=len(margins)))
    allowed = within_budget(macs, torch.tensor([share]))
    chosen = select_structure(torch.tensor([margins]), allowed)[0]
    limit = float(torch.tensor(share)) * sum(macs)
    cost = sum(m for m, keep in zip(macs, chosen.tolist(), strict=True) if keep)
    assert cost <= limit
    feasible = [
        subset
        for subset in itertools.product([0, 1], repeat=len(macs))
        if any(subset) and sum(m for m, keep in zip(macs, subset, strict=True) if keep) <= limit
    ]
    if not feasible:
        assert chosen.sum() == 0
        return
    values = [sum(v for v, keep in zip(margins, s, strict=True) if keep) for s in feasible]
    value = sum(v for v, keep in zip(margins, chosen.tolist(), strict=True) if keep)
    assert value == pytest.approx(max(values), abs=1e-4)


@given(margins=margin_lists, data=st.data())
def test_any_set_of_allowed_structures_is_obeyed(margins: list[float], data: st.DataObject) -> None:
    """Whatever limits a device has: memory and bytes need not be sums over blocks."""
    n = 2 ** len(margins)
    allowed = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    chosen = select_structure(torch.tensor([margins]), torch.tensor(allowed))[0]
    values = {
        tuple(row): sum(v for v, keep in zip(margins, row, strict=True) if keep)
        for row, permitted in zip(all_structures(len(margins)).tolist(), allowed, strict=True)
        if permitted and any(row)
    }
    code = tuple(chosen.int().tolist())
    if values:
        assert values[code] == pytest.approx(max(values.values()), abs=1e-4)
    else:
        assert not any(code)


@given(margins=margin_lists)
def test_without_budget_it_is_the_argmax_with_one_block_at_least(margins: list[float]) -> None:
    chosen = select_structure(torch.tensor([margins]))[0]
    assert chosen.sum() >= 1
    if any(value > 0 for value in margins):
        assert chosen.tolist() == [float(value > 0) for value in margins]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_stay_finite(dtype: torch.dtype) -> None:
    logits = torch.tensor([[[-1e4, 1e4], [0.0, 0.0], [1e4, -1e4]]], dtype=dtype)
    assert sample_structure(logits, 0.5).isfinite().all()
    assert select_structure(keep_margins(logits)).tolist() == [[1, 0, 0]]


def test_samples_follow_the_logits_and_are_exactly_0_or_1() -> None:
    logits = torch.tensor([0.0, 2.0]).repeat(4000, 4, 1)
    sampled = sample_structure(logits, 1.0)
    assert set(sampled.unique().tolist()) == {0.0, 1.0}
    expected = logits.softmax(-1)[0, 0, KEEP].item()
    assert sampled.mean().item() == pytest.approx(expected, abs=0.02)


def test_structure_term_is_a_target() -> None:
    margin = torch.tensor([0.0, 0.0]).repeat(3, 2, 1)
    assert structure_term(margin, 0.5).item() == 0.0
    assert structure_term(margin, 0.3).item() == pytest.approx(0.04)
    assert structure_term(margin, 0.7).item() == pytest.approx(0.04)


@pytest.mark.parametrize("n_kept", range(1, 11))
def test_a_share_of_equal_blocks_keeps_as_many(n_kept: int) -> None:
    """0.9 of ten blocks are nine, although 0.9 is no exact number."""
    budget = torch.tensor([n_kept / 10], dtype=torch.float64)
    assert select_structure(torch.ones(1, 10), within_budget([7] * 10, budget)).sum() == n_kept


def test_budget_term_holds_the_mean_of_each_budget() -> None:
    """Half of a budget's users above it and half below it are as good as all at it."""
    odds = torch.tensor([0.25, 0.75, 1.0, 1.0])  # expected share of two equal blocks
    logits = torch.stack([(1 - odds).log(), odds.log()], -1).unsqueeze(1).repeat(1, 2, 1)
    at_budget = torch.tensor([0.5, 0.5, 1.0, 1.0], dtype=torch.float64)
    assert budget_term(logits, [3, 3], at_budget).item() == pytest.approx(0.0, abs=1e-12)
    over = torch.tensor([0.5, 0.5, 0.5, 1.0], dtype=torch.float64)
    expected = ((2.0 / 3 - 0.5) ** 2 + 0.0) / 2
    assert budget_term(logits, [3, 3], over).item() == pytest.approx(expected, abs=1e-6)
    unequal = torch.tensor([[[-9.0, 9.0], [9.0, -9.0]]])  # the first of two blocks
    assert budget_term(unequal, [3, 1], torch.tensor([0.75])).item() < 1e-9
