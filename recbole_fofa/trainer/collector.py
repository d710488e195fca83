"""What RecBole's metrics are computed from: collected in batches, by all processes together."""

from __future__ import annotations

import copy
from typing import Any

import torch
from recbole.evaluator.collector import Collector, DataStruct
from torch import Tensor

from recbole_fofa import processes
from recbole_fofa.compat import counts_set_aside

HITS = "rec.topk"
"""RecBole's name for what :func:`hits` finds."""


class SharedCollector(Collector):
    """Each process collects from its own batches, and all get what all have collected.

    RecBole marks what users want in whole numbers for all rows and items, which takes about as long
    as to score them. Here :func:`hits` looks it up in the lists.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._collects_hits = self.register.need(HITS)
        setattr(self.register, HITS, False)  # what the rest of RecBole's collector asks

    def eval_batch_collect(
        self, scores_tensor: Any, interaction: Any, positive_u: Any, positive_i: Any
    ) -> None:
        """Collect from a batch, unless it is scored elsewhere: then it has no scores here."""
        if scores_tensor is None:
            return
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        if self._collects_hits:
            found = hits(scores_tensor, positive_u, positive_i, max(self.topk))
            self.data_struct.update_tensor(HITS, found)

    def get_data_struct(self) -> DataStruct:
        """What all processes have collected, in the order of their ranks."""
        with counts_set_aside(self.data_struct) as counts:
            own = super().get_data_struct()
        for name, value in counts.items():
            own.set(name, copy.deepcopy(value))
        if processes.world_size() == 1:
            return own
        everybodys = processes.all_gather(own._data_dict)
        gathered = DataStruct()
        for name in dict.fromkeys(name for one in everybodys for name in one):
            found = [one[name] for one in everybodys if name in one]
            per_row = name.startswith("rec.") or name == "data.label"
            gathered.set(name, torch.cat(found) if per_row else found[0])
        return gathered


def hits(scores: Tensor, rows: Tensor, items: Tensor, k: int) -> Tensor:
    """Which of each row's ``k`` best items are wanted, and how many are.

    Args:
        scores: ``[B, N]``.
        rows: Row of each wanted item, ``[M]``.
        items: The wanted items, ``[M]``.
        k: Length of a list.

    Returns:
        1 for an item of the list that is wanted and 0 for others, also where fewer than ``k`` items
        are ranked at all (the rest has a score of ``-inf``), then the number of those that
        the row wants, ``[B, k + 1]``.
    """
    n_rows, n_items = scores.shape
    wanted = (rows.to(scores.device) * n_items + items.to(scores.device)).unique()
    first = torch.arange(n_rows, device=scores.device).unsqueeze(1) * n_items
    top = scores.topk(k, dim=-1)
    listed = torch.isin(first + top.indices, wanted) & (top.values > -torch.inf)
    counts = torch.bincount(wanted // n_items, minlength=n_rows).unsqueeze(1)
    return torch.cat((listed.long(), counts), dim=1)
