"""Where the atomic files of a dataset are, whatever way the user named it.

RecBole only knows ``<data_path>/<name>/<name>.inter``. Here a folder, a file, a gzip-compressed
file and a ``data_path`` that already is the dataset's folder are understood too. Nothing is opened
and the network is never touched.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import recbole

from recbole_fofa.errors import DataError

_SUFFIXES = (".inter", ".inter.gz")
_BUNDLED = ("ml-100k",)


@dataclass(frozen=True)
class DatasetFiles:
    """The files of one dataset.

    Args:
        name: RecBole's dataset token: the files are ``<name>.inter``, ``<name>.user``, ...
        folder: Absolute folder that holds them, or into which RecBole would download them.
        inter: The ``.inter`` or ``.inter.gz`` file; None if the dataset is still to be downloaded
            or has pre-split files only (``benchmark_filename``).
        known: Whether the name is in RecBole's download table and not on this disk.
    """

    name: str
    folder: Path
    inter: Path | None
    known: bool = False

    def atomic(self, suffix: str) -> Path | None:
        """Find ``<name>.<suffix>`` or ``<name>.<suffix>.gz`` in the folder.

        Args:
            suffix: Such as ``user``, ``item`` or, for a pre-split part, ``train.inter``.

        Returns:
            The file, the uncompressed one if both exist, or None.
        """
        for ending in ("", ".gz"):
            path = self.folder / f"{self.name}.{suffix}{ending}"
            if os.path.isfile(path):
                return path
        return None


def locate(dataset: str, data_path: str | Path, benchmark: bool = False) -> DatasetFiles:
    """Find the files of a dataset.

    Args:
        dataset: A name below ``data_path``, a folder, or a file ending in .inter or .inter.gz.
        data_path: Folder that holds dataset folders, or is itself the dataset's folder.
        benchmark: Whether the interactions are pre-split into ``<name>.<part>.inter`` files.

    Returns:
        The files found, or ``known=True`` for a name that RecBole can download.

    Raises:
        DataError: Nothing is there, or a folder holds several candidates.
    """
    dataset = str(dataset).strip()
    root = _absolute(data_path)
    if not dataset:
        raise DataError(f"dataset is empty: set it to a name below {root}, a folder or a file")
    if dataset.endswith(_SUFFIXES):
        return _from_file(dataset, root, benchmark)
    for found in _candidates(dataset, root, benchmark):
        if found is not None:
            return found
    downloadable = dataset in _known_names() and not benchmark
    if downloadable and not os.path.exists(root / dataset):
        return DatasetFiles(dataset, root / dataset, None, known=True)
    raise DataError(_not_found(dataset, root, benchmark))


def _absolute(path: str | Path) -> Path:
    # Not Path.resolve: a linked folder keeps the name that the user gave it.
    return Path(os.path.abspath(os.path.expanduser(path)))


def _candidates(dataset: str, root: Path, benchmark: bool) -> Iterator[DatasetFiles | None]:
    """Try the ways to read ``dataset`` one by one, RecBole's own first."""
    bare = os.path.basename(dataset) == dataset
    if bare:
        yield _named(dataset, root / dataset, benchmark)
        yield _named(dataset, root, benchmark)
    if dataset in _BUNDLED:
        bundled = Path(recbole.__file__).parent / "dataset_example" / dataset
        yield _named(dataset, bundled, benchmark)
    # A path starts at the working folder, as at a shell prompt; a bare name belongs to data_path.
    places = [_absolute(dataset), _absolute(root / dataset)]
    for folder in reversed(places) if bare else places:
        yield _from_folder(folder, benchmark)


def _named(name: str, folder: Path, benchmark: bool) -> DatasetFiles | None:
    if benchmark:
        return DatasetFiles(name, folder, None) if name in _tokens(folder, True) else None
    inter = DatasetFiles(name, folder, None).atomic("inter")
    return DatasetFiles(name, folder, inter) if inter else None


def _from_folder(folder: Path, benchmark: bool) -> DatasetFiles | None:
    tokens = _tokens(folder, benchmark)
    if not tokens:
        return None
    if folder.name in tokens:
        return _named(folder.name, folder, benchmark)
    if len(tokens) == 1:
        return _named(tokens[0], folder, benchmark)
    files = ", ".join(_inter_files(folder))
    raise DataError(
        f"{folder} holds several datasets ({files}) and none is named {folder.name}: "
        f"give the file, such as dataset: {folder / _inter_files(folder)[0]}"
    )


def _from_file(dataset: str, root: Path, benchmark: bool) -> DatasetFiles:
    places = (_absolute(dataset), _absolute(root / dataset))
    path = next((place for place in places if os.path.isfile(place)), None)
    if path is not None:
        token = _token(path.name, benchmark)
        plain = path.with_name(path.name.removesuffix(".gz"))
        if plain != path and os.path.isfile(plain):
            raise DataError(f"{path} lies beside {plain.name}: remove one, or give {plain}")
        if token:
            return DatasetFiles(token, path.parent, None if benchmark else path)
        raise DataError(
            f"{path} is not a pre-split file: with benchmark_filename set, files are named "
            "<name>.<part>.inter"
        )
    path = places[0]
    near = _near(path.name, _inter_files(path.parent))
    raise DataError(f"dataset file not found: looked for {path}{near}")


def _listing(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (OSError, ValueError):  # not a folder, not readable, or no path at all
        return []


def _inter_files(folder: Path) -> list[str]:
    names = (name for name in _listing(folder) if name.endswith(_SUFFIXES))
    return [name for name in names if os.path.isfile(folder / name)]


def _token(file: str, benchmark: bool) -> str:
    """Dataset name of an interaction file; empty if it has none."""
    stem = file.removesuffix(".gz").removesuffix(".inter")
    return stem.rpartition(".")[0] if benchmark else stem


def _tokens(folder: Path, benchmark: bool) -> list[str]:
    tokens = (_token(file, benchmark) for file in _inter_files(folder))
    return list(dict.fromkeys(token for token in tokens if token))


@lru_cache(maxsize=1)
def _known_names() -> frozenset[str]:
    # kg_url.yaml, the table of knowledge graphs, names no dataset that url.yaml lacks.
    table = Path(recbole.__file__).parent / "properties" / "dataset" / "url.yaml"
    lines = table.read_text(encoding="utf-8").splitlines() if table.is_file() else []
    return frozenset(line.partition(":")[0].strip() for line in lines if ":" in line)


def _not_found(dataset: str, root: Path, benchmark: bool) -> str:
    name = os.path.basename(os.path.normpath(dataset))
    bare = name == dataset
    folder = root / dataset if bare else _absolute(dataset)
    file = f"{name}.<part>.inter" if benchmark else f"{name}.inter"
    message = f"dataset {dataset!r} not found: looked for {folder / file}"
    if os.path.isdir(folder):
        held = ", ".join(_listing(folder)[:5]) or "nothing"
        known = bare and dataset in _known_names()
        remedy = "; remove that folder and RecBole downloads the dataset" if known else ""
        return f"{message}, but that folder holds {held}{remedy}"
    siblings = [n for n in _listing(folder.parent) if os.path.isdir(folder.parent / n)]
    names = [*siblings, *_tokens(folder.parent, benchmark), *(_known_names() if bare else ())]
    near = _near(name, names)
    return f"{message}{near or '; set data_path, or give dataset as a folder or .inter file'}"


def _near(name: str, names: Iterable[str]) -> str:
    by_lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=3)
    return f"; did you mean {' or '.join(by_lower[c] for c in close)}?" if close else ""
