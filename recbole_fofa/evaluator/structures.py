"""Which structures the evaluated users get: the first thing that a metric hides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from recbole_fofa.data.dataset import POSITION
from recbole_fofa.model.structure import count_structures


@dataclass(frozen=True)
class StructureSummary:
    """Structures over the users of an evaluation.

    Attributes:
        n_users: Number of users.
        keep_rate: Share of users who keep each block, ``L`` numbers.
        soft_keep_rate: Mean keep probability of each block, ``L`` numbers.
        n_structures: Number of distinct structures.
        all_kept: Share of users who keep every block.
        all_dropped: Share of users who keep none.
        mean_macs_share: Mean MACs of the kept blocks relative to all blocks.
        counts: Users of each structure, written as a string such as ``"101"``, most common first.
    """

    n_users: int
    keep_rate: list[float]
    soft_keep_rate: list[float]
    n_structures: int
    all_kept: float
    all_dropped: float
    mean_macs_share: float
    counts: dict[str, int]

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a person."""
        rates = ", ".join(f"block {i}: {rate:.3f}" for i, rate in enumerate(self.keep_rate))
        common = ", ".join(f"{key} x{count}" for key, count in list(self.counts.items())[:5])
        return [
            f"keep rate per block: {rates}",
            f"distinct structures: {self.n_structures} among {self.n_users} users ({common})",
            f"all blocks kept: {self.all_kept:.1%} of users, none kept: {self.all_dropped:.1%}, "
            f"mean MACs of blocks: {self.mean_macs_share:.1%} of the full network",
        ]


@torch.no_grad()
def summarize_structures(model: Any, eval_data: Iterable[Any]) -> StructureSummary:
    """Count the structures of a loader's users; of a user with several rows, the latest counts.

    Args:
        model: A model with ``structures(interaction)``; put into evaluation mode.
        eval_data: RecBole's evaluation loader; its batches begin with the interaction.
    """
    model.eval()
    users, places, hard, soft = [], [], [], []
    for interaction, *_ in eval_data:
        structure, probabilities = model.structures(interaction.to(model.device))
        users.append(interaction[model.USER_ID].cpu())
        places.append(
            interaction[POSITION if POSITION in interaction else model.ITEM_SEQ_LEN].cpu()
        )
        hard.append(structure.cpu())
        soft.append(probabilities.cpu())
    latest = _latest_rows(torch.cat(users).numpy(), torch.cat(places).numpy())
    kept = torch.cat(hard)[latest] > 0
    macs = torch.tensor(model.network.block_macs, dtype=torch.float64)
    counts = count_structures(kept)
    return StructureSummary(
        n_users=len(kept),
        keep_rate=kept.double().mean(0).tolist(),
        soft_keep_rate=torch.cat(soft)[latest].double().mean(0).tolist(),
        n_structures=len(counts),
        all_kept=kept.all(1).double().mean().item(),
        all_dropped=(~kept.any(1)).double().mean().item(),
        mean_macs_share=((kept.double() @ macs) / macs.sum()).mean().item(),
        counts=counts,
    )


def _latest_rows(users: np.ndarray, places: np.ndarray) -> torch.Tensor:
    """Index of each user's row with the largest place, ``[n_users]``."""
    order = np.lexsort((places, users))
    ends = np.append(np.diff(users[order]) != 0, True)
    return torch.from_numpy(order[ends])
