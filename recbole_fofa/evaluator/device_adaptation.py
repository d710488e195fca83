"""What a trained model gives and costs on classes of devices, over all cases of a split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_fofa.cloud.assemble import device_limits
from recbole_fofa.device.uplink import uplink_size
from recbole_fofa.evaluator.cases import Cases
from recbole_fofa.evaluator.device_class import DeviceClass, Way, first_blocks
from recbole_fofa.evaluator.quality import CaseMetrics, Values
from recbole_fofa.evaluator.ranking import DotProducts
from recbole_fofa.evaluator.result import CHOSEN, SHUFFLED, Row
from recbole_fofa.evaluator.tally import Tally
from recbole_fofa.evaluator.task import Task
from recbole_fofa.model.network import Decision
from recbole_fofa.model.repeats import Repeats
from recbole_fofa.recommender.forward_ofa import ForwardOFA

OnCases = Callable[[str, Cases, slice, np.ndarray, np.ndarray, Values], None]
"""Called with a row's label, the cases, which of them, structures, ranks and metrics."""


class DeviceAdaptationEvaluator:
    """Quality, structures and costs of a model on device classes.

    For each profile: the structures that the controller chooses within its limits, and the same
    structures shuffled over users, which cost the same and are chosen for nobody. Beside them,
    whatever the profile: the first ``k`` blocks for everybody, up to all blocks. Parameters are
    always each user's own. Memory does not grow with the number of users, nor with that of
    items beyond the model's own table.

    Args:
        model: A trained ``ForwardOFA``; put into evaluation mode.
        classes: Device classes, see :func:`device_classes`.
        free: A class without limits, for the rows of fixed structures.
        metrics: Of each case.
        ages: Interactions between the making of a payload and the request, for the staleness
            rows; none for no such rows.
        seed: Of the shuffling.
        yardsticks: Whether there are the rows of shuffled and fixed structures.
    """

    def __init__(
        self,
        model: ForwardOFA,
        classes: Sequence[DeviceClass],
        free: DeviceClass,
        metrics: CaseMetrics,
        *,
        ages: Sequence[int] = (),
        seed: int = 0,
        yardsticks: bool = True,
    ) -> None:
        self.model = model.eval()
        self.metrics = metrics
        self.classes = list(classes)
        self.ages = sorted(set(ages))
        self.seed = seed
        self.yardsticks = yardsticks
        n_fixed = len(free.info.blocks) if yardsticks else 0
        self._fixed = [first_blocks(free, model, k) for k in range(1, n_fixed + 1)]

    @property
    def n_rows(self) -> int:
        """How many rows there are, staleness included."""
        ages = len(self.ages) + 1 if self.ages else 0
        return len(self.classes) * (1 + self.yardsticks + ages) + len(self._fixed)

    def rows(self, task: Task, on_cases: OnCases | None = None) -> Iterator[Row]:
        """Rows of the report: those of the profiles, then fixed structures.

        Args:
            task: What is ranked, for whom.
            on_cases: Receives per-user values.
        """
        for device in self.classes:
            # The row of the shuffled ones needs all structures: one number for each case.
            codes = np.zeros(len(task.cases), dtype=np.int32)
            yield self._row(Way(CHOSEN, device, device.profile.name), task, on_cases, found=codes)
            if not self.yardsticks:
                continue
            others = codes[np.random.default_rng(self.seed).permutation(len(codes))]
            way = Way(SHUFFLED, device, device.profile.name)
            yield self._row(way, task, on_cases, given=others)
        n_blocks = len(self._fixed)
        for k, device in enumerate(self._fixed, start=1):
            kept = "all blocks" if k == n_blocks else f"first {k} of {n_blocks} blocks"
            yield self._row(Way(f"{kept} for everybody", device, None), task, on_cases)

    def staleness(self, task: Task) -> Iterator[Row]:
        """Each profile at each age, for those cases whose history reaches the oldest payload.

        The payload is made from what the user had had ``age`` interactions before the request;
        the request reads the newest items, as always.
        """
        if not self.ages:
            return
        some = task.only(task.cases.history_lengths > self.ages[-1])
        for device in self.classes:
            for age in (0, *self.ages):
                yield self._row(Way(CHOSEN, device, device.profile.name, age), some, None)

    @torch.no_grad()
    def _row(
        self,
        way: Way,
        task: Task,
        on_cases: OnCases | None,
        *,
        given: NDArray[np.int32] | None = None,
        found: NDArray[np.int32] | None = None,
    ) -> Row:
        """A row; ``given`` has codes of structures in the place of the controller's, and ``found``
        takes them, one for each case.
        """
        tally = Tally(way)
        bits = np.arange(len(way.device.info.blocks))
        for chosen in task.cases.chunks():
            decision = self._decide(way, task.cases, chosen)
            if given is not None:
                structure = torch.from_numpy(given[chosen, None] >> bits & 1)
                decision = replace(decision, structure=structure.to(decision.structure))
            scores = self._scores(task.cases, chosen, decision)
            ranks = task.ranks(scores, chosen, self.model.device)
            structure = decision.structure.cpu().numpy().astype(np.int64)
            codes = structure @ (1 << bits)
            values = self.metrics.values(ranks)
            if found is not None:
                found[chosen] = codes
            tally.add(structure, codes, values, task.groups(chosen))
            if on_cases is not None:
                on_cases(way.label, task.cases, chosen, structure, ranks, values)
        return tally.row(uplink_size(way.device.info, self.model.settings.hidden_size))

    def _decide(self, way: Way, cases: Cases, chosen: slice) -> Decision:
        device, info = self.model.device, way.device.info
        behaviour, lengths = cases.before(chosen, info.adapt_length, way.age)
        limits = device_limits(info, len(lengths), device)
        return self.model.decide(behaviour.to(device), lengths.to(device), *limits)

    def _scores(self, cases: Cases, chosen: slice, decision: Decision) -> DotProducts:
        """Of some cases, adapted and encoded so many users at a time."""
        model = self.model
        item_seq, lengths = cases.before(chosen, model.max_seq_length)
        size = model.users_at_once(len(lengths))
        vectors, biases = [], []
        for begin in range(0, len(lengths), size):
            rows = slice(begin, begin + size)
            own = Decision(
                decision.structure[rows],
                None if decision.interest is None else decision.interest[rows],
                None,
            )
            adaptation = model.network.generate(own)
            hidden = model.encode(item_seq[rows].to(model.device), adaptation)
            vectors.append(model.gather_indexes(hidden, lengths[rows].to(model.device) - 1))
            biases.append(adaptation.repeat_bias)
        repeats = None
        if biases[0] is not None:
            seen, _ = cases.before(chosen, model.settings.repeat_seq_length)
            repeats = Repeats.of(seen.to(model.device), torch.cat(biases))
        return DotProducts(torch.cat(vectors), model.item_embedding.weight, repeats)
