"""What is ranked, and for whom: what two results must share to be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_fofa.evaluator.candidates import Candidates
from recbole_fofa.evaluator.cases import Cases, Slices
from recbole_fofa.evaluator.ranking import Scores, candidate_ranks, full_ranks


@dataclass(frozen=True)
class Task:
    """Cases, and the items among which their targets are ranked.

    Attributes:
        cases: Whose next items.
        candidates: Of these cases; all items if ``None``.
        mask_history: Whether no item before the target is ranked.
    """

    cases: Cases
    candidates: Candidates | None = None
    mask_history: bool = False

    def ranks(self, scores: Scores, chosen: slice, device: torch.device) -> NDArray[np.int64]:
        """Ranks of the targets of some cases, 0 for those that are not ranked, ``[B]``."""
        targets = torch.from_numpy(self.cases.targets[chosen]).to(device)
        seen = self.cases.seen(chosen).to(device) if self.mask_history else None
        if self.candidates is None:
            ranks = full_ranks(scores, targets, seen)
        else:
            candidates = self.candidates.of(chosen).to(device)
            ranks = candidate_ranks(scores, targets, candidates, seen)
        found: NDArray[np.int64] = ranks.cpu().numpy()
        return found

    def groups(self, chosen: slice) -> Mapping[str, NDArray[np.bool_]]:
        """Which of some cases are in each slice of the report."""
        return self._slices.masks(self.cases, chosen)

    def only(self, kept: NDArray[np.bool_]) -> Task:
        """Some of the cases."""
        candidates = self.candidates.only(kept) if self.candidates is not None else None
        return Task(self.cases.only(kept), candidates, self.mask_history)

    @cached_property
    def _slices(self) -> Slices:
        return Slices(self.cases)
