"""Ranks in chunks against plain sorting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_fofa.errors import TrainingDivergedError
from recbole_fofa.evaluator import ranking
from recbole_fofa.evaluator.ranking import DotProducts, ScoreMatrix, candidate_ranks, full_ranks

N = 23


def brute(scores: np.ndarray, target: int, among: set[int], seen: set[int]) -> int:
    """1 plus the number of other ranked items that are not worse; 0 if it is not ranked."""
    if target in seen or target not in among:
        return 0
    others = among - seen - {target, 0}
    return 1 + sum(scores[item] >= scores[target] for item in others)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 60), st.booleans(), st.booleans())
def test_ranks_equal_counting(seed: int, n: int, cells: int, masks: bool, coarse: bool) -> None:
    random = np.random.default_rng(seed)
    scores = random.normal(size=(n, N)).astype(np.float32)
    if coarse:
        scores = np.round(scores)  # many ties
    targets = random.integers(1, N, n)
    seen = random.integers(0, N, (n, 5)) if masks else None
    rows = np.stack([random.permutation(np.arange(N))[:9] for _ in range(n)])
    ours = ScoreMatrix(torch.from_numpy(scores))
    held = ranking._CELLS
    ranking._CELLS = cells
    try:
        given_seen = None if seen is None else torch.from_numpy(seen)
        full = full_ranks(ours, torch.from_numpy(targets), given_seen)
        some = candidate_ranks(ours, torch.from_numpy(targets), torch.from_numpy(rows), given_seen)
    finally:
        ranking._CELLS = held
    for row in range(n):
        own = set() if seen is None else set(seen[row].tolist())
        everything = set(range(1, N))
        target = int(targets[row])
        assert full[row] == brute(scores[row], target, everything, own)
        assert some[row] == brute(scores[row], target, set(rows[row].tolist()), own)


def test_dot_products_are_the_matrix() -> None:
    vectors, table = torch.randn(4, 8), torch.randn(N, 8)
    products, matrix = DotProducts(vectors, table), ScoreMatrix(vectors @ table.T)
    items = torch.randint(1, N, (4, 6))
    torch.testing.assert_close(products.of_range(3, 9), matrix.of_range(3, 9))
    torch.testing.assert_close(products.of_items(items), matrix.of_items(items))


def test_scores_are_left_as_they_are() -> None:
    scores = torch.randn(3, N)
    before = scores.clone()
    full_ranks(ScoreMatrix(scores), torch.tensor([1, 2, 3]), torch.ones(3, 2, dtype=torch.long))
    assert torch.equal(scores, before)


def test_one_score_for_all_items_earns_nothing() -> None:
    """A collapsed model must not be ranked first."""
    assert full_ranks(ScoreMatrix(torch.zeros(2, N)), torch.tensor([1, 5])).tolist() == [N - 1] * 2


@pytest.mark.parametrize("n", [1, 2, 3, 60, 256])
@pytest.mark.parametrize("cells", [ranking._CELLS, 5000])
def test_equal_items_have_equal_scores(n: int, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last digit, whichever product they come from."""
    monkeypatch.setattr(ranking, "_CELLS", cells)
    for size, n_items in ((32, 18), (64, 1003), (64, 400)):
        vectors, table = torch.randn(n, size), torch.randn(size).expand(n_items, size).contiguous()
        scores, targets = DotProducts(vectors, table), torch.randint(1, n_items, (n,))
        assert (full_ranks(scores, targets) == n_items - 1).all()
    for width in (10, 100):
        others = torch.stack([torch.randperm(399)[:width] + 1 for _ in range(n)])
        others[:, 0] = targets
        distinct = torch.tensor([len(set(row.tolist())) for row in others])
        found = candidate_ranks(scores, targets, others)
        assert (found >= distinct - 1).all() and (found <= width).all()


def test_scores_that_are_no_number_stop() -> None:
    scores = torch.randn(2, N)
    scores[1, 7] = torch.nan
    with pytest.raises(TrainingDivergedError, match="not a number"):
        full_ranks(ScoreMatrix(scores), torch.tensor([1, 2]))
