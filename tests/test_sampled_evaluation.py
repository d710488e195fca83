"""RecBole's evaluation on sampled items (``mode: uni9``), which reads histories user by user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from data_files import write_inter
from small import trainer_of

MODES = [
    ("uni9", ["NDCG", "Hit"], "NDCG@3"),
    ("pop9", ["NDCG", "Hit"], "NDCG@3"),
    ("uni4", ["AUC", "LogLoss"], "AUC"),
]


def uneven(folder: Path) -> str:
    """Users with histories of 4 to 18 items."""
    rows = [
        [f"u{user}", f"i{(user * 7 + step * 2) % 40}", step]
        for user in range(30)
        for step in range(4 + user % 15)
    ]
    return str(write_inter(folder, "uneven", rows))


def trained(tmp_path: Path, model: str, mode: str, **changes: Any) -> tuple[Any, Any]:
    settings = {
        "dataset": uneven(tmp_path),
        "topk": [3],
        "eval_args": {"mode": mode},
        "adapt_seq_length": 12,
        "valid_metric": "NDCG@3",
        **changes,
    }
    trainer, loaders = trainer_of(tmp_path, model, **settings)
    trainer.fit(*loaders[:2], saved=False, show_progress=False)
    trainer.model.eval().requires_grad_(False)
    return trainer, loaders[2]


@pytest.mark.parametrize("model", ["ForwardOFA", "DUET"])
@pytest.mark.parametrize(("mode", "metrics", "valid_metric"), MODES, ids=[m[0] for m in MODES])
def test_histories_of_all_lengths_are_ranked(
    tmp_path: Path, model: str, mode: str, metrics: list[str], valid_metric: str
) -> None:
    changes = {"metrics": metrics, "valid_metric": valid_metric, "epochs": 1}
    trainer, test_data = trained(tmp_path, model, mode, **changes)
    result = trainer.evaluate(test_data, load_best_model=False)
    assert valid_metric.lower() in result and len(result) == 2
    assert all(value >= 0 for value in result.values())


@pytest.mark.parametrize("model", ["ForwardOFA", "DUET"])
def test_sampled_items_have_the_scores_of_a_full_ranking(tmp_path: Path, model: str) -> None:
    """A history is adapted to once, however many items are asked of it."""
    trainer, test_data = trained(tmp_path, model, "uni9", epochs=1)
    network = trainer.model
    adapted, states = [], network.states

    def counted(rows: Any) -> Any:
        adapted.append(len(rows))
        return states(rows)

    network.states = counted
    for rows, *_ in test_data:
        items = rows["item_id"]
        expected = network.full_sort_predict(rows).gather(1, items.unsqueeze(1)).squeeze(1)
        n_users = len(rows["user_id"].unique())
        adapted.clear()
        torch.testing.assert_close(network.predict(rows), expected, atol=1e-5, rtol=1e-5)
        assert sum(adapted) == n_users == len(rows) / 10


def test_structures_are_those_of_the_rows(tmp_path: Path) -> None:
    trainer, test_data = trained(tmp_path, "ForwardOFA", "uni9", epochs=1)
    network = trainer.model
    rows = next(iter(test_data))[0]
    structure, soft = network.structures(rows)
    for index in range(0, len(rows), 7):
        alone = network.structures(rows[index : index + 1])
        assert torch.equal(structure[index : index + 1], alone[0])
        torch.testing.assert_close(soft[index : index + 1], alone[1], atol=1e-5, rtol=1e-5)
