"""What metrics are computed from is what RecBole collects."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from recbole.evaluator.collector import Collector

from recbole_fofa.trainer.collector import SharedCollector, hits


@given(st.data())
def test_hits_are_those_of_recbole(data: st.DataObject) -> None:
    n_rows = data.draw(st.integers(1, 6))
    n_items = data.draw(st.integers(5, 40))
    longest = data.draw(st.integers(1, 5))
    config = {"metrics": ["NDCG", "Recall"], "topk": [1, longest], "device": "cpu"}
    config["eval_args"] = {"mode": "full"}
    pairs = st.tuples(st.integers(0, n_rows - 1), st.integers(1, n_items - 1))
    rows, items = torch.tensor(data.draw(st.lists(pairs, min_size=1, max_size=12))).T
    collectors = Collector(config), SharedCollector(config)
    for seed in range(2):  # batches
        scores = torch.randn(n_rows, n_items, generator=torch.Generator().manual_seed(seed))
        scores[:, 0] = -torch.inf
        for collector in collectors:
            collector.eval_batch_collect(scores, None, rows, items)
    theirs, ours = (collector.get_data_struct()["rec.topk"] for collector in collectors)
    assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    assert ours.shape == (2 * n_rows, max(1, longest) + 1)


def test_what_is_not_ranked_is_no_hit() -> None:
    """Of three items with a score, a list of four cannot hold a fourth."""
    scores = torch.tensor([[-torch.inf, 3.0, 2.0, 1.0, -torch.inf]] * 2)
    found = hits(scores, torch.tensor([0, 1]), torch.tensor([4, 2]), 5)
    assert found.tolist() == [[0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 1]]
