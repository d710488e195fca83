"""RecBole's quirks on today's numpy, pandas and torch, each with its remedy, in one place.

Nothing here changes RecBole's files. What is replaced inside RecBole is put back afterwards.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import recbole
import scipy.sparse
import torch

from recbole_fofa.compat.metrics import import_without_sklearn
from recbole_fofa.errors import ConfigError

import_without_sklearn()

_OLDEST, _TOO_NEW = (1, 2, 1), (1, 3)
_ALIASES = {
    "float_": np.float64,
    "complex_": np.complex128,
    "unicode_": np.str_,
    "bool": np.bool_,
    "int": np.int_,
    "float": np.float64,
    "complex": np.complex128,
    "object": np.object_,
    "str": np.str_,
    "long": np.int_,
    "unicode": np.str_,
}
# The chained fills do lose values under pandas 3; the data checks find and report those.
_NOISE: tuple[tuple[str, type[Warning], str], ...] = (
    (r".*torch\.cuda\.amp\.(GradScaler|autocast)", FutureWarning, r"recbole\."),
    (r"distutils Version classes are deprecated", DeprecationWarning, r"thop\."),
    (r"A value is (being|trying to be) set on a copy", Warning, r"recbole\.data\."),
    (r"The inplace keyword in .* is deprecated", Warning, r"recbole\.data\."),
    (r"The given NumPy array is not writable", UserWarning, r"recbole\.data\."),
    (r"__array_wrap__ must accept context", DeprecationWarning, r"numpy\._core\.fromnumeric"),
)


def check_versions() -> None:
    """Refuse a RecBole whose internals this package was not written for.

    Raises:
        ConfigError: RecBole is older than 1.2.1 or is 1.3 or newer.
    """
    found = str(getattr(recbole, "__version__", "unknown"))
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:3])
    if not _OLDEST <= numbers < _TOO_NEW:
        raise ConfigError(
            f"recbole {found} is installed, but recbole_fofa needs recbole >=1.2.1,<1.3: "
            'run pip install "recbole>=1.2.1,<1.3"'
        )


def add_numpy_aliases() -> None:
    """Give numpy the removed names that RecBole reads; names that exist stay as they are."""
    for name, scalar in _ALIASES.items():
        # Not hasattr: numpy 1.26 warns when a removed name is looked up.
        if name not in vars(np):
            setattr(np, name, scalar)


def add_dok_update() -> None:
    """Give scipy's ``dok_matrix`` the removed ``_update`` that RecBole's graph models call."""
    if not hasattr(scipy.sparse.dok_matrix, "_update"):
        scipy.sparse.dok_matrix._update = lambda matrix, entries: matrix._dict.update(entries)


def switch_off_anomaly_mode() -> None:
    """Undo a side effect of importing RecBole's sequential models.

    ``sine.py`` switches torch's anomaly mode on for the whole process, which makes every training
    step of every model slower. Call this after the models were imported.
    """
    torch.autograd.set_detect_anomaly(False)


def quiet_known_warnings() -> None:
    """Hide the deprecation warnings that RecBole's own lines cause; all others stay visible."""
    for message, category, module in _NOISE:
        warnings.filterwarnings("ignore", message=message, category=category, module=module)


@contextmanager
def counts_set_aside(collected: Any) -> Iterator[dict[str, Any]]:
    """Keep plain numbers and counters out of RecBole's sight while it takes what was collected.

    Version 1.2.1 calls ``.cpu()`` on them, so that ItemCoverage, GiniIndex, AveragePopularity and
    TailPercentage fail at the first evaluation.

    Args:
        collected: RecBole's ``DataStruct``.

    Yields:
        What was set aside, by name.
    """
    plain = {k: value for k, value in collected._data_dict.items() if not torch.is_tensor(value)}
    for name in plain:
        del collected[name]
    yield plain
    for name, value in plain.items():
        collected.set(name, value)


@contextmanager
def single_process_barrier() -> Iterator[None]:
    """Let RecBole's download end without a process group: it calls ``barrier`` unconditionally."""
    import torch.distributed as distributed

    if distributed.is_available() and distributed.is_initialized():
        yield
        return
    original = distributed.barrier
    distributed.barrier = lambda *_, **__: None
    try:
        yield
    finally:
        distributed.barrier = original


@contextmanager
def elementwise_length() -> Iterator[None]:
    """Give ``Series.agg(len)`` its old meaning, the length of each element, while RecBole loads.

    pandas 3 returns the number of rows instead; RecBole uses it for every sequence column.
    """
    import pandas

    original = pandas.Series.agg

    def agg(series: Any, function: Any = None, *args: Any, **keywords: Any) -> Any:
        return series.map(len) if function is len else original(series, function, *args, **keywords)

    pandas.Series.agg = agg
    try:
        yield
    finally:
        pandas.Series.agg = original
