"""Finding a data set, however it is named; nothing here may reach for the network."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import recbole
from data_files import interactions, write_bench, write_inter, write_tiny, write_tiny_gz

from recbole_fofa.data.location import locate
from recbole_fofa.errors import DataError


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("network used")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_a_name_below_data_path(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path)
    found = locate("tiny", tmp_path)
    assert (found.name, found.folder, found.inter) == ("tiny", folder, folder / "tiny.inter")
    assert not found.known


def test_a_data_path_that_is_the_dataset_folder(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path)
    assert locate("tiny", folder) == locate("tiny", tmp_path)


@pytest.mark.parametrize("dataset", ["data/tiny", "./data/tiny/", "data/tiny/tiny.inter"])
def test_paths_start_at_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str
) -> None:
    folder = write_tiny(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    found = locate(dataset, "dataset/")
    assert (found.name, found.inter) == ("tiny", folder / "tiny.inter")
    assert found.folder.is_absolute()


@pytest.mark.parametrize("dataset", ["tiny/tiny.inter", "sub/tiny"])
def test_paths_may_start_at_data_path_too(tmp_path: Path, dataset: str) -> None:
    write_tiny(tmp_path)
    write_tiny(tmp_path / "sub")
    assert locate(dataset, tmp_path).name == "tiny"


def test_gzipped_files(tmp_path: Path) -> None:
    folder = write_tiny_gz(tmp_path)
    expected = folder / "tiny.inter.gz"
    assert locate("tiny", tmp_path).inter == expected
    assert locate(str(folder), "").inter == expected
    assert locate(str(expected), "").name == "tiny"
    write_tiny(tmp_path)
    assert locate("tiny", tmp_path).inter == folder / "tiny.inter"


def test_a_folder_whose_only_file_has_another_name(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path).rename(tmp_path / "copy")
    assert locate(str(folder), "").name == "tiny"
    assert locate("copy", tmp_path).name == "tiny"


def test_a_folder_with_several_datasets(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    for name in ("a", "b"):
        write_inter(tmp_path, name, interactions())
        folder.mkdir(exist_ok=True)
        (tmp_path / name / f"{name}.inter").rename(folder / f"{name}.inter")
    with pytest.raises(DataError, match=r"several datasets \(a\.inter, b\.inter\)"):
        locate(str(folder), "")
    assert locate(str(folder / "b.inter"), "").name == "b"
    (folder / "mine.inter").write_text("")
    assert locate(str(folder), "").name == "mine"


def test_a_linked_folder_keeps_its_name(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tiny").symlink_to(tmp_path / "tiny")
    assert locate("tiny", tmp_path / "other").folder == tmp_path / "other" / "tiny"


def test_ml_100k_is_the_copy_in_recbole_unless_there_is_an_own_one(tmp_path: Path) -> None:
    bundled = Path(recbole.__file__).parent / "dataset_example" / "ml-100k"
    assert locate("ml-100k", tmp_path).inter == bundled / "ml-100k.inter"
    own = write_tiny(tmp_path, "ml-100k")
    assert locate("ml-100k", tmp_path).folder == own


def test_a_name_that_recbole_can_download(tmp_path: Path) -> None:
    found = locate("ml-1m", tmp_path)
    assert (found.known, found.inter, found.folder) == (True, None, tmp_path / "ml-1m")


def test_a_known_name_whose_folder_is_there_but_empty(tmp_path: Path) -> None:
    (tmp_path / "ml-1m").mkdir()
    with pytest.raises(DataError, match="holds nothing; remove that folder and RecBole downloads"):
        locate("ml-1m", tmp_path)


def test_benchmark_files(tmp_path: Path) -> None:
    folder = write_bench(tmp_path)
    for dataset, root in (("bench", tmp_path), ("bench", folder), (str(folder), "")):
        found = locate(dataset, root, benchmark=True)
        assert (found.name, found.folder, found.inter) == ("bench", folder, None)
    assert found.atomic("train.inter") == folder / "bench.train.inter"
    assert found.atomic("user") is None
    assert locate(str(folder / "bench.train.inter"), "", benchmark=True).name == "bench"


@pytest.mark.parametrize("wanted", ["tiny", "tiny/tiny.inter", "ml-1m"])
def test_benchmark_files_that_are_missing(tmp_path: Path, wanted: str) -> None:
    write_tiny(tmp_path)
    with pytest.raises(DataError, match=r"<part>\.inter"):
        locate(wanted, tmp_path, benchmark=True)


def test_a_typo_names_the_place_and_the_near_names(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    expected = f"looked for {tmp_path}/tinny/tinny.inter; did you mean tiny?"
    with pytest.raises(DataError, match=expected.replace("?", r"\?")):
        locate("tinny", tmp_path)
    with pytest.raises(DataError, match=r"did you mean tiny\?"):
        locate(str(tmp_path / "tinny"), "")
    with pytest.raises(DataError, match=r"did you mean tiny\.inter\?"):
        locate(str(tmp_path / "tiny" / "tinny.inter"), "")
    with pytest.raises(DataError, match="did you mean ml-1m"):
        locate("ML-1M", tmp_path)


@pytest.mark.parametrize("dataset", ["nosuch", "no/such", "x" * 5000, "nul\0byte", "/"])
def test_what_is_nowhere(tmp_path: Path, dataset: str) -> None:
    with pytest.raises(DataError, match="not found: looked for /"):
        locate(dataset, tmp_path)


def test_an_empty_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dataset is empty"):
        locate(" ", tmp_path)
