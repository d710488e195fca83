"""Session-window batches: the deployment itself as a training sample (design is ours).

A sample is a window of consecutive targets of one user. Adaptation reads only what lies before
the window; the network reads a context and the window's own items, causally, and is asked for
every target. Windows are drawn anew each epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from recbole.data.interaction import Interaction

from recbole_fofa.data.batch_part import BatchPart, part_of
from recbole_fofa.data.dataset import (
    ADAPT_PREFIX,
    POSITION,
    SEEN_PREFIX,
    FofaSequentialDataset,
    latest_items,
)
from recbole_fofa.data.sequences import Histories, IntArray
from recbole_fofa.errors import DataError
from recbole_fofa.processes import Place

TARGETS = "session_targets"
"""Field: the item to predict at each input position, 0 where there is none, ``[B, T]``."""
NEGATIVES = "session_negatives"
"""Field: one sampled item for each target (BCE and BPR), ``[B, T]``."""


@dataclass(frozen=True)
class Windows:
    """Windows of targets ``begins[i] .. ends[i] - 1``, as positions in the histories."""

    begins: IntArray
    ends: IntArray

    def __len__(self) -> int:
        return len(self.begins)

    def at(self, chosen: IntArray) -> Windows:
        """Some of the windows."""
        return Windows(self.begins[chosen], self.ends[chosen])


def training_ranges(dataset: FofaSequentialDataset) -> Windows:
    """Each user's training targets as one range of positions.

    Raises:
        DataError: If a user's training targets are not the first ones of the user.
    """
    if dataset.histories is None:
        raise DataError("train_regime: session needs whole histories, not benchmark files")
    positions = np.sort(dataset.inter_feat[POSITION].numpy())
    starts, first, counts = np.unique(
        dataset.histories.starts[positions], return_index=True, return_counts=True
    )
    ends = positions[first] + counts
    if (positions[first] != starts + 1).any() or (positions[first + counts - 1] != ends - 1).any():
        raise DataError(
            "train_regime: session needs each user's earliest interactions in the training set: "
            "set eval_args: {order: TO, group_by: user}, or train_regime: prefix"
        )
    return Windows(starts + 1, ends)


def draw_windows(
    ranges: Windows,
    session_length: int,
    random: np.random.Generator,
    times: np.ndarray | None = None,
    gap: float | None = None,
) -> Windows:
    """Cut each range into consecutive windows; every target lies in exactly one.

    Args:
        ranges: One range of targets for each user.
        session_length: Largest number of targets in a window. Lengths are drawn uniformly from
            its upper half, and the first window's also below that, so that borders move.
        random: Source of the draws.
        times: Time of each position, needed with ``gap``.
        gap: Seconds of pause that start a new window; sessions that are longer than
            ``session_length`` are cut. Nothing is drawn then.
    """
    if gap is not None and times is not None:
        ranges = _cut_at(ranges, np.flatnonzero(np.diff(times) > gap) + 1)

    def draw_lengths(shortest: int, n_windows: int) -> IntArray:
        if gap is not None:
            return np.full(n_windows, session_length)
        return random.integers(shortest, session_length + 1, n_windows)

    begins, ends = [], []
    begin = ranges.begins.copy()
    lengths = draw_lengths(1, len(ranges))
    active = np.flatnonzero(begin < ranges.ends)
    while len(active):
        end = np.minimum(begin[active] + lengths[active], ranges.ends[active])
        begins.append(begin[active])
        ends.append(end)
        begin[active] = end
        active = active[end < ranges.ends[active]]
        lengths[active] = draw_lengths(max(1, session_length // 2), len(active))
    return Windows(np.concatenate(begins), np.concatenate(ends))


def _cut_at(ranges: Windows, cuts: IntArray) -> Windows:
    """Split ranges at the given positions."""
    borders = np.unique(np.concatenate([ranges.begins, ranges.ends, cuts]))
    begins, ends = borders[:-1], borders[1:]
    owner = np.searchsorted(ranges.begins, begins, side="right") - 1
    inside = (owner >= 0) & (begins < ranges.ends[np.maximum(owner, 0)])
    return Windows(begins[inside], ends[inside])


class SessionLoader:
    """Iterates over session-window batches; what RecBole's trainer expects of a loader.

    Args:
        dataset: The training split.
        batch_size: Windows in a batch, those of all processes together.
        session_length: See :func:`draw_windows`.
        gap: See :func:`draw_windows`.
        adapt_length: Latest items that adaptation reads.
        seed: With the epoch, decides every draw, so that a resumed run continues bit for bit.
        shuffle: Whether batches come in random order.
        negatives: ``None``, ``"uniform"`` or ``"popularity"``: one negative for each target.
        seen_length: Latest items that count as had before; ``None`` if nothing depends on them.
        place: Of this process among those that share each batch; alone if not given.

    Attributes:
        part: What the latest batch is a part of.

    Each batch holds RecBole's item list and length (the input), ``adapt_`` of both (what
    adaptation reads), ``session_targets`` and, if asked for, ``seen_`` of list and length (what
    was had before the last target) and ``session_negatives``.
    """

    def __init__(
        self,
        dataset: FofaSequentialDataset,
        *,
        batch_size: int,
        session_length: int,
        gap: float | None,
        adapt_length: int,
        seed: int,
        shuffle: bool = True,
        negatives: str | None = None,
        seen_length: int | None = None,
        place: Place | None = None,
    ) -> None:
        self._dataset = self.dataset = dataset
        self.ranges = training_ranges(dataset)
        self.histories: Histories = dataset.histories  # type: ignore[assignment]
        self.batch_size = batch_size
        self.max_length = dataset.max_item_list_len
        self.session_length = min(session_length, self.max_length)
        self.gap = gap
        self.adapt_length = adapt_length
        self.seed = seed
        self.shuffle = shuffle
        self.negatives = negatives
        self.seen_length = seen_length
        self._place = place or Place()
        self.part: BatchPart | None = None
        self._item_list = dataset.iid_field + dataset.config["LIST_SUFFIX"]
        self._length = dataset.item_list_length_field
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the windows of an epoch; a function of the seed and the epoch alone."""
        self._random = np.random.default_rng([self.seed, epoch])
        self.windows = draw_windows(
            self.ranges, self.session_length, self._random, self.histories.times, self.gap
        )
        self._batches = self._batches_of_windows()

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Interaction]:
        for chosen in self._batches:
            windows = self.windows.at(chosen)
            self.part = BatchPart.of(self._place, windows.ends - windows.begins)
            if self.negatives is None or self._place.world_size == 1:
                yield self.batch(windows.at(self.part.rows))
            else:  # all processes draw all negatives, the same as one process would
                yield part_of(self.batch(windows), self.part.rows)

    def batch(self, windows: Windows) -> Interaction:
        """Tensors of some windows.

        The input of a window is its items but the last, after as much context as fits into
        ``MAX_ITEM_LIST_LENGTH``; adaptation sees what lies before the window's first target.
        """
        begins, ends = windows.begins, windows.ends
        first = np.maximum(self.histories.starts[begins], ends - 1 - self.max_length)
        inputs = self.histories.slices(first, ends - 1)
        targets = self.histories.slices(first + 1, ends)
        columns = np.arange(targets.shape[1])
        targets[torch.from_numpy(columns < (begins - first - 1)[:, None])] = 0
        fields = {
            self._item_list: inputs,
            self._length: torch.from_numpy(ends - 1 - first),
            **latest_items(self._dataset, ADAPT_PREFIX, begins, self.adapt_length),
            TARGETS: targets,
        }
        if self.seen_length is not None:
            # Up to the last target; what was had before each of them, the model cuts out.
            fields |= latest_items(self._dataset, SEEN_PREFIX, ends - 1, self.seen_length)
        if self.negatives is not None:
            fields[NEGATIVES] = self._sample_negatives(targets)
        return Interaction(fields)

    def _batches_of_windows(self) -> list[IntArray]:
        """Windows of all lengths in each batch, as they fall.

        Batches of one length would be cheaper to pad, but each step would then follow the users
        of one length, and the few targets of short windows would weigh as much as many others.
        """
        n_windows = len(self.windows)
        order = self._random.permutation(n_windows) if self.shuffle else np.arange(n_windows)
        return np.split(order, np.arange(self.batch_size, n_windows, self.batch_size))

    @cached_property
    def _training_targets(self) -> IntArray:
        """Item of every training target."""
        return self.histories.items[self._dataset.inter_feat[POSITION].numpy()]

    def _sample_negatives(self, targets: torch.Tensor) -> torch.Tensor:
        """Any item but the target, one for each.

        Popularity is that among the training targets: held-out items must not leak into it. Where
        it draws the target itself, another item takes its place, each as likely as the next.
        """
        asked = targets.numpy()
        last = self._dataset.item_num - 1
        others = self._random.integers(1, max(last, 2), asked.shape)
        others = np.minimum(others + (others >= asked), last)  # all but the target, evenly
        if self.negatives != "popularity":
            return torch.from_numpy(others)
        drawn = self._random.choice(self._training_targets, asked.shape)
        return torch.from_numpy(np.where(drawn == asked, others, drawn))
