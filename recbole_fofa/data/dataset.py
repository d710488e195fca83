"""RecBole datasets in float64 order, from plain or gzipped files, with lazy prefixes."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_fofa.compat import elementwise_length, single_process_barrier
from recbole_fofa.data.sequences import Histories, IntArray
from recbole_fofa.errors import DataError
from recbole_fofa.settings import makes_repeat_bias

POSITION = "history_position"
"""Field of a row's target: its index in :class:`Histories`."""
ADAPT_PREFIX = "adapt_"
"""Prefix of the fields that adaptation reads."""
SEEN_PREFIX = "seen_"
"""Prefix of the fields with what a user has had."""


class OrderedMixin(Dataset):
    """Order in time is that of float64, file order among ties; RecBole casts to float32 first.

    Rows stay where RecBole has them until it sorts them, so that users and items have the numbers
    that it gives them, by their first rows.
    """

    _times: NDArray[np.float64] | None = None
    """Of each row, before they are cast or scaled; ``None`` if there are none."""
    _ranks: IntArray
    """Each row's place in the order of time."""

    def _load_data(self, token: str, dataset_path: str) -> None:
        with _plain_files(Path(dataset_path), token) as folder:
            super()._load_data(token, str(folder))

    def _download(self) -> None:
        with single_process_barrier():
            super()._download()

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        super()._load_inter_feat(token, dataset_path)
        if self.benchmark_filename_list is not None:
            self._cut_benchmark_lists()
        elif self.time_field in self.inter_feat and self.config["missing_time"] == "previous":
            self._fill_times()

    def _fill_times(self) -> None:
        """``missing_time: previous``: a blank time is that of the user's row before."""
        rows, time = self.inter_feat, self.time_field
        if rows[time].isna().any():
            filled = rows.groupby(rows[self.uid_field], sort=False)[time].ffill()
            rows[time] = filled.fillna(rows[time].min())

    def _filter_nan_user_or_item(self) -> None:
        """Drop rows without an id; RecBole's places are off once it has dropped some."""
        for name, field in (("user", self.uid_field), ("item", self.iid_field)):
            for table in ("inter", name):
                rows = getattr(self, f"{table}_feat")
                if rows is not None and field in rows:
                    kept = rows[rows[field].notna()].reset_index(drop=True)
                    setattr(self, f"{table}_feat", kept)

    def _remove_duplication(self) -> None:
        """Stable where RecBole's quicksort is not (rm_dup_inter: first or last)."""
        keep = self.config["rm_dup_inter"]
        if keep is None:
            return
        rows = self.inter_feat
        if self.time_field in rows:
            rows = rows.sort_values(self.time_field, kind="stable")
        self.inter_feat = rows.drop_duplicates([self.uid_field, self.iid_field], keep=keep)

    def _remap_ID_all(self) -> None:
        super()._remap_ID_all()
        if self.benchmark_filename_list is None and self.time_field in self.inter_feat:
            self._times = self.inter_feat[self.time_field].to_numpy(np.float64, copy=True)
            self._ranks = np.empty(len(self._times), np.int64)
            self._ranks[np.argsort(self._times, kind="stable")] = np.arange(len(self._times))

    def sort(self, by: Any, ascending: Any = True) -> None:
        """RecBole's sort of all rows by time, before they are split, in float64."""
        if self._times is None or by != self.time_field or ascending is not True:
            super().sort(by, ascending)
            self._times = None
        else:
            order = np.argsort(self._ranks)
            self.inter_feat._reindex(torch.from_numpy(order))
            self._ranks, self._times = self._ranks[order], self._times[order]

    def shuffle(self) -> None:
        """RecBole's; the times are those of the rows as they were."""
        super().shuffle()
        self._times = None

    def copy(self, new_inter_feat: Any) -> Any:
        """A part of the split, whose rows the times are no longer those of."""
        part = super().copy(new_inter_feat)
        part._times = None
        return part

    def _fill_nan(self) -> None:
        """RecBole's rule, by assignment: its chained fills do nothing under pandas 3."""
        for name in self.feat_name_list:
            feature = getattr(self, name)
            for field in feature:
                kind = self.field2type[field]
                if kind == FeatureType.TOKEN:
                    feature[field] = feature[field].fillna(0).astype(np.int64)
                elif kind == FeatureType.FLOAT:
                    feature[field] = feature[field].fillna(feature[field].mean())
                else:
                    empty = np.array([], np.int64 if kind == FeatureType.TOKEN_SEQ else np.float64)
                    feature[field] = [
                        empty if isinstance(value, float) else value for value in feature[field]
                    ]

    def _data_processing(self) -> None:
        with elementwise_length():
            super()._data_processing()

    def _cut_benchmark_lists(self) -> None:
        """Pre-split files bring their histories: cut them to the most recent items."""
        newest = self.config["MAX_ITEM_LIST_LENGTH"]
        for field in [f for f in self.inter_feat if f.endswith(self.config["LIST_SUFFIX"])]:
            self.inter_feat[field] = [row[-newest:] for row in self.inter_feat[field]]
            self.field2seqlen[field] = newest


class FofaDataset(OrderedMixin, Dataset):
    """For RecBole's general models."""


class FofaSequentialDataset(OrderedMixin, SequentialDataset):
    """For sequential models, RecBole's and ours: one row per prefix, cut out when it is read.

    RecBole copies every prefix of every user (about 1 KB an interaction). Here a row holds its
    target and its position; ``dataset[index]`` adds the lists, so that RecBole's loaders and
    models see what they always saw. With ``adapt_seq_length`` set, the longer behaviour that
    adaptation reads comes as ``adapt_<item list>`` and ``adapt_<length>``, and what counts as had
    before as ``seen_`` of both.

    Attributes:
        histories: All users' items and times in order; ``None`` for benchmark files.
        full_width: Whether the further lists are as wide as they can be, and not as the longest
            that is read at a time, for loaders that put single users' rows together.
    """

    histories: Histories | None = None
    full_width = False

    def data_augmentation(self) -> None:
        """One row per prefix: ``u, <i1 .. i(t-1)> | i_t``, without copying the prefixes."""
        self._aug_presets()
        self._check_field("uid_field", "time_field")
        times = cast(NDArray[np.float64], self._times)  # of the field that was just checked
        order = np.lexsort((self._ranks, self.inter_feat[self.uid_field].numpy()))
        flat = self.inter_feat[torch.from_numpy(order)]
        self.histories = Histories.of(
            flat[self.uid_field].numpy(),
            flat[self.iid_field].numpy(),
            times[order],
        )
        self._flat_lists = {
            f"{field}{self.config['LIST_SUFFIX']}": flat[field]
            for field in flat
            if field != self.uid_field
        }
        targets = np.flatnonzero(np.arange(len(order)) > self.histories.starts)
        rows = flat[torch.from_numpy(targets)]
        lengths = self.histories.n_before(targets, self.max_item_list_len)
        rows.update(
            Interaction(
                {
                    self.item_list_length_field: torch.from_numpy(lengths),
                    POSITION: torch.from_numpy(targets),
                }
            )
        )
        self.inter_feat = rows
        self._times, self._ranks = times[order][targets], self._ranks[order][targets]

    def __getitem__(self, index: Any, join: bool = True) -> Interaction:
        if self.histories is None:
            return super().__getitem__(index, join)
        # A tensor index; Interaction's own __getitem__ goes through a Python list.
        chosen = torch.as_tensor(index) if not isinstance(index, slice) else index
        columns = self.inter_feat.interaction
        rows = Interaction({field: values[chosen] for field, values in columns.items()})
        positions = rows[POSITION].numpy().reshape(-1)
        self._add_lists(rows, positions)
        for prefix, length in (
            (ADAPT_PREFIX, self.config["adapt_seq_length"]),
            (SEEN_PREFIX, self.seen_length),
        ):
            if length:
                width = length if self.full_width else None
                rows.interaction.update(latest_items(self, prefix, positions, length, width))
        return self.join(rows) if join else rows

    def _add_lists(self, rows: Interaction, positions: np.ndarray) -> None:
        begins = positions - rows[self.item_list_length_field].numpy().reshape(-1)
        places = begins[:, None] + np.arange(self.max_item_list_len)
        outside = torch.from_numpy(places >= positions[:, None])
        places = torch.from_numpy(places).masked_fill(outside, 0)
        for field, flat in self._flat_lists.items():
            values = flat[places]
            padding = outside.view(*outside.shape, *[1] * (values.dim() - 2))
            rows.interaction[field] = values.masked_fill(padding, 0)

    @property
    def seen_length(self) -> int | None:
        """Latest items that count as had before; ``None`` if nothing depends on them."""
        if makes_repeat_bias(self.config["repeat_bias"], self.config["use_mapper"]):
            return int(self.config["repeat_seq_length"])
        return None

    def inter_matrix(self, form: str = "coo", value_field: str | None = None) -> Any:
        """Sparse matrix of interactions; each user's first item comes from the histories."""
        if self.histories is None:
            return super().inter_matrix(form, value_field)
        if value_field is not None:
            raise DataError(f"inter_matrix of '{value_field}' is not offered for lazy sequences")
        both = self.histories.with_firsts(self.inter_feat[POSITION].numpy())
        local = Interaction(
            {
                self.uid_field: torch.from_numpy(self.histories.users[both]),
                self.iid_field: torch.from_numpy(self.histories.items[both]),
            }
        )
        return self._create_sparse_matrix(local, self.uid_field, self.iid_field, form, None)

    def _benchmark_presets(self) -> None:
        """As RecBole's, by ``map``: ``agg(len)`` gives one number for all under pandas 3."""
        suffix = self.config["LIST_SUFFIX"]
        for field in [f for f in self.inter_feat if f + suffix in self.inter_feat]:
            setattr(self, f"{field}_list_field", field + suffix)
        self.set_field_property(
            self.item_list_length_field, FeatureType.TOKEN, FeatureSource.INTERACTION, 1
        )
        lists = self.inter_feat[self.iid_field + suffix]
        self.inter_feat[self.item_list_length_field] = lists.map(len)


def latest_items(
    dataset: FofaSequentialDataset,
    prefix: str,
    positions: IntArray,
    length: int,
    width: int | None = None,
) -> dict[str, torch.Tensor]:
    """Fields with the latest items before each position, and with their numbers."""
    histories = cast(Histories, dataset.histories)
    lengths = histories.n_before(positions, length)
    return {
        prefix + dataset.iid_field + dataset.config["LIST_SUFFIX"]: histories.before(
            positions, length, width
        ),
        prefix + dataset.item_list_length_field: torch.from_numpy(lengths),
    }


@contextmanager
def _plain_files(folder: Path, token: str) -> Iterator[Path]:
    """The folder itself, or a temporary one with its gzipped files unpacked."""
    packed = sorted(folder.glob(f"{token}.*.gz")) if folder.is_dir() else []
    context = tempfile.TemporaryDirectory() if packed else nullcontext(str(folder))
    with context as place:
        if packed:
            for path in folder.glob(f"{token}.*"):
                target = Path(place) / path.name.removesuffix(".gz")
                if path.suffix != ".gz":
                    shutil.copy(path, target)
                elif not (folder / target.name).exists():
                    with gzip.open(path, "rb") as source, target.open("wb") as sink:
                        shutil.copyfileobj(source, sink)
        yield Path(place)
