"""What a split holds, counted by user, and what it leaves out; an empty part stops the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recbole_fofa.errors import DataError


def check_splits(datasets: Mapping[str, Any], n_users: int, topk: list[int]) -> list[str]:
    """Count rows and users of each part.

    Args:
        datasets: The built datasets by name (``train``, ``valid``, ``test``).
        n_users: Users in the data, padding not counted.
        topk: The evaluation's cut-offs.

    Returns:
        Lines for the log.

    Raises:
        DataError: If a part is empty, or if filters left fewer items than the largest ``topk``.
    """
    lines = []
    for part, dataset in datasets.items():
        rows = len(dataset.inter_feat)
        if rows == 0:
            raise DataError(_empty(part, datasets, n_users))
        users = len(np.unique(dataset.inter_feat[dataset.uid_field].numpy()))
        left_out = f", {n_users - users} users have none" if users < n_users else ""
        lines.append(f"{part}: {rows} rows of {users} users{left_out}")
        n_items = dataset.item_num - 1  # id 0 is padding
        if max(topk) > n_items:
            raise DataError(
                f"topk {max(topk)} is over the {n_items} items that the filters leave: "
                f"set topk to at most {n_items}"
            )
    if any(len(d.inter_feat) < n_users for d in datasets.values()):
        lines.append(
            "a user's first interaction is never a target, and leave-one-out takes the last row "
            "for test before the one before it for validation: users with fewer than 2 "
            "interactions are never evaluated, with fewer than 3 not validated, and with fewer "
            "than 4 not trained on"
        )
    return lines


def _empty(part: str, datasets: Mapping[str, Any], n_users: int) -> str:
    sizes = ", ".join(f"{name} {len(d.inter_feat)}" for name, d in datasets.items())
    return (
        f"the {part} set is empty (rows: {sizes}; {n_users} users): the split in eval_args leaves "
        "nothing for it. Use longer histories, or another split such as "
        "eval_args: {split: {LS: valid_and_test}, order: TO, group_by: user}"
    )
