"""What a trained model gives and costs on classes of devices, over all cases of a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_fofa.cloud.assemble import device_limits, make_bundle, structure_costs
from recbole_fofa.cloud.cost import StructureCost
from recbole_fofa.device.bundle_info import BundleInfo
from recbole_fofa.device.uplink import uplink_size
from recbole_fofa.device_profile import DeviceProfile
from recbole_fofa.errors import ConfigError
from recbole_fofa.evaluator.candidates import Candidates
from recbole_fofa.evaluator.cases import Cases, Slices
from recbole_fofa.evaluator.quality import CaseMetrics, Means, Values
from recbole_fofa.evaluator.ranking import DotProducts, Scores, candidate_ranks, full_ranks
from recbole_fofa.evaluator.result import Row, SliceResult
from recbole_fofa.model.network import Decision
from recbole_fofa.model.structure import all_structures
from recbole_fofa.recommender.forward_ofa import ForwardOFA

CHOSEN, SHUFFLED = "chosen per user", "shuffled over users"

OnCases = Callable[[str, Cases, slice, np.ndarray, np.ndarray, Values], None]
"""Called with a row's label, the cases, which of them, structures, ranks and metrics."""


@dataclass(frozen=True)
class DeviceClass:
    """A profile as a model serves it.

    Attributes:
        profile: The limits.
        info: Description of the bundle, with the structures that fit.
        costs: Cost of each structure by its code, ``2^L``.
    """

    profile: DeviceProfile
    info: BundleInfo
    costs: list[StructureCost]


@dataclass(frozen=True)
class Way:
    """One row of the report: on which devices, which structure, how old the payload is.

    Attributes:
        name: What chooses the structure.
        device: The device class.
        shown_profile: Its name; ``None`` where all blocks that the row keeps are allowed.
        age: Interactions since the payload was made.
    """

    name: str
    device: DeviceClass
    shown_profile: str | None
    age: int = 0

    @property
    def label(self) -> str:
        """Of per-user values."""
        return self.name if self.shown_profile is None else f"{self.shown_profile}: {self.name}"


def device_classes(
    model: ForwardOFA,
    profiles: Sequence[DeviceProfile],
    tokens: Sequence[str],
    n_candidates: int | None = None,
) -> list[DeviceClass]:
    """Profiles as a model serves them.

    Args:
        model: The model.
        profiles: Device classes.
        tokens: Token of each row of the item table; row 0 is padding.
        n_candidates: Items that a request ranks: a device caches so many and the user's recent
            ones; all items if not given.

    Raises:
        ConfigError: With every profile that no structure fits.
    """
    found, faults = [], []
    cached = None
    if n_candidates is not None:
        n_recent = max(model.settings.adapt_seq_length, model.max_seq_length)
        cached = tokens[1 : 1 + n_candidates + n_recent]
    for profile in profiles:
        try:
            bundle = make_bundle(model, profile, tokens, cached)
        except ConfigError as error:
            faults += error.faults
            continue
        costs = structure_costs(model, bundle.info, bundle.tensors)
        found.append(DeviceClass(profile, bundle.info, costs))
    if faults:
        raise ConfigError(faults)
    return found


class DeviceAdaptationEvaluator:
    """Quality, structures and costs of a model on device classes.

    For each profile: the structures that the controller chooses within its limits, and the same
    structures shuffled over users, which cost the same and are chosen for nobody. Beside them,
    whatever the profile: the first ``k`` blocks for everybody, up to all blocks. Parameters are
    always each user's own. Memory does not grow with the number of users, nor with that of
    items beyond the model's own table.

    Args:
        model: A trained ``ForwardOFA``; put into evaluation mode.
        profiles: Device classes.
        metrics: Of each case.
        tokens: See :func:`device_classes`, and the next one too.
        n_candidates: Items that a request ranks.
        ages: Interactions between the making of a payload and the request, for the staleness
            rows; none for no such rows.
        seed: Of the shuffling.

    Raises:
        ConfigError: If nothing fits a profile, or the model has no structures.
    """

    def __init__(
        self,
        model: ForwardOFA,
        profiles: Sequence[DeviceProfile],
        metrics: CaseMetrics,
        tokens: Sequence[str],
        *,
        n_candidates: int | None = None,
        ages: Sequence[int] = (),
        seed: int = 0,
    ) -> None:
        self.model = model.eval()
        self.metrics = metrics
        self.classes = device_classes(model, profiles, tokens, n_candidates)
        self.ages = sorted(set(ages))
        self.seed = seed
        (free,) = device_classes(model, [DeviceProfile(name="free")], tokens, n_candidates)
        self._fixed = [_first_blocks(free, model, k + 1) for k in range(len(free.info.blocks))]
        self._structures = all_structures(len(free.info.blocks)).numpy()

    @property
    def n_rows(self) -> int:
        """How many rows there are, staleness included."""
        ages = len(self.ages) + 1 if self.ages else 0
        return len(self.classes) * (2 + ages) + len(self._fixed)

    def rows(
        self,
        cases: Cases,
        *,
        candidates: Candidates | None = None,
        mask_history: bool = False,
        on_cases: OnCases | None = None,
    ) -> Iterator[Row]:
        """Rows of the report: those of the profiles, then fixed structures.

        Args:
            cases: What is evaluated.
            candidates: Of these cases; all items if not given.
            mask_history: Whether no item before the target is ranked.
            on_cases: Receives per-user values.
        """
        for device in self.classes:
            name = device.profile.name
            for way in (Way(CHOSEN, device, name), Way(SHUFFLED, device, name)):
                yield self._row(way, cases, candidates, mask_history, on_cases)
        n_blocks = len(self._fixed)
        for k, device in enumerate(self._fixed, start=1):
            kept = "all blocks" if k == n_blocks else f"first {k} of {n_blocks} blocks"
            way = Way(f"{kept} for everybody", device, None)
            yield self._row(way, cases, candidates, mask_history, on_cases)

    def staleness(
        self, cases: Cases, *, candidates: Candidates | None = None, mask_history: bool = False
    ) -> Iterator[Row]:
        """Each profile at each age, for those cases whose history reaches the oldest payload.

        The payload is made from what the user had had ``age`` interactions before the request;
        the request reads the newest items, as always.
        """
        if not self.ages:
            return
        long_enough = cases.history_lengths > self.ages[-1]
        some = cases.only(long_enough)
        candidates = candidates.only(long_enough) if candidates is not None else None
        for device in self.classes:
            for age in sorted({0, *self.ages}):
                way = Way(CHOSEN, device, device.profile.name, age)
                yield self._row(way, some, candidates, mask_history, None)

    @torch.no_grad()
    def _row(
        self,
        way: Way,
        cases: Cases,
        candidates: Candidates | None,
        mask_history: bool,
        on_cases: OnCases | None,
    ) -> Row:
        tally = _Tally(way, self._structures)
        slices = Slices(cases) if len(cases) else None
        random = torch.Generator().manual_seed(self.seed)
        for chosen in cases.chunks():
            decision = self._decide(way, cases, chosen)
            if way.name == SHUFFLED:
                order = torch.randperm(len(decision.structure), generator=random)
                decision = replace(decision, structure=decision.structure[order])
            ranks = self._ranks(cases, chosen, decision, candidates, mask_history)
            structure = decision.structure.cpu().numpy().astype(np.int64)
            values = self.metrics.values(ranks)
            tally.add(structure, values, slices.masks(cases, chosen) if slices else {})
            if on_cases is not None:
                on_cases(way.label, cases, chosen, structure, ranks, values)
        return tally.row(uplink_size(way.device.info, self.model.settings.hidden_size))

    def _decide(self, way: Way, cases: Cases, chosen: slice) -> Decision:
        device, info = self.model.device, way.device.info
        behaviour, lengths = cases.before(chosen, info.adapt_length, way.age)
        limits = device_limits(info, len(lengths), device)
        return self.model.decide(behaviour.to(device), lengths.to(device), *limits)

    def _ranks(
        self,
        cases: Cases,
        chosen: slice,
        decision: Decision,
        candidates: Candidates | None,
        mask_history: bool,
    ) -> np.ndarray:
        device = self.model.device
        scores = DotProducts(
            self._vectors(cases, chosen, decision), self.model.item_embedding.weight
        )
        return ranks_of(scores, cases, chosen, candidates, mask_history, device)

    def _vectors(self, cases: Cases, chosen: slice, decision: Decision) -> Tensor:
        """The state that is scored, ``[B, D]``, in chunks of ``adapt_chunk`` users."""
        model = self.model
        item_seq, lengths = cases.before(chosen, model.max_seq_length)
        size = model.settings.adapt_chunk or len(lengths)
        parts = []
        for begin in range(0, len(lengths), size):
            rows = slice(begin, begin + size)
            own = Decision(
                decision.structure[rows],
                None if decision.interest is None else decision.interest[rows],
                None,
            )
            hidden = model.encode(item_seq[rows].to(model.device), model.network.generate(own))
            parts.append(model.gather_indexes(hidden, lengths[rows].to(model.device) - 1))
        return torch.cat(parts)


def ranks_of(
    scores: Scores,
    cases: Cases,
    chosen: slice,
    candidates: Candidates | None,
    mask_history: bool,
    device: torch.device,
) -> np.ndarray:
    """Ranks of the targets of some cases, 0 for those that are not ranked, ``[B]``."""
    targets = torch.from_numpy(cases.targets[chosen]).to(device)
    seen = cases.seen(chosen).to(device) if mask_history else None
    if candidates is None:
        ranks = full_ranks(scores, targets, seen)
    else:
        ranks = candidate_ranks(scores, targets, candidates.of(chosen).to(device), seen)
    found: np.ndarray = ranks.cpu().numpy()
    return found


def _first_blocks(free: DeviceClass, model: ForwardOFA, k: int) -> DeviceClass:
    """Devices that hold the first ``k`` blocks and nothing else."""
    macs = model.network.block_macs
    budget = None if free.info.budget is None else sum(macs[:k]) / sum(macs)
    return replace(free, info=replace(free.info, allowed=[2**k - 1], budget=budget))


@dataclass
class _Tally:
    """Running sums of a row."""

    way: Way
    structures: np.ndarray
    means: Means = field(default_factory=Means)
    slices: dict[str, Means] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)

    def add(self, structure: np.ndarray, values: Values, masks: Any) -> None:
        kept: dict[str, np.ndarray] = {**values, "keep_rate": structure}
        self.means.add(kept)
        for name, mask in masks.items():
            self.slices.setdefault(name, Means()).add(kept, mask)
        codes = structure @ (1 << np.arange(structure.shape[1]))
        self.counts.update(codes.tolist())

    def row(self, uplink_bytes: int) -> Row:
        means = self.means.plain()
        keep_rate = means.pop("keep_rate", None)
        return Row(
            way=self.way.name,
            profile=self.way.shown_profile,
            age=self.way.age,
            n=self.means.n,
            metrics=means,
            keep_rate=keep_rate,
            counts={
                "".join(map(str, self.structures[code].tolist())): n
                for code, n in self.counts.most_common()
            },
            violations=self._violations(),
            macs=self._spread("macs"),
            full_macs=self.way.device.costs[-1].macs,
            payload_bytes=self._spread("payload_bytes"),
            memory_bytes=self._spread("memory_bytes"),
            uplink_bytes=uplink_bytes,
            slices={name: _slice_result(found) for name, found in self.slices.items()},
        )

    def _violations(self) -> int:
        """Cases whose structure is over a limit of the profile, or not among those it holds."""
        device = self.way.device
        return sum(
            n
            for code, n in self.counts.items()
            if not device.costs[code].fits(device.profile) or code not in device.info.allowed
        )

    def _spread(self, name: str) -> dict[str, float]:
        """Mean and 95th percentile (the smallest value that 95 % do not exceed)."""
        if not self.counts:
            return {}
        costs = [(getattr(self.way.device.costs[code], name), n) for code, n in self.counts.items()]
        total, below = sum(n for _, n in costs), 0
        mean = sum(cost * n for cost, n in costs) / total
        for cost, n in sorted(costs):
            below += n
            if below >= 0.95 * total:
                return {"mean": mean, "p95": cost}
        raise AssertionError("unreachable")


def _slice_result(found: Means) -> SliceResult:
    means = found.plain()
    keep_rate = means.pop("keep_rate", None)
    return SliceResult(found.n, means, keep_rate)
