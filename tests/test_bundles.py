"""Bundles: self-contained, refused when damaged, and nothing in them is run."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from ring_bundle import FIXTURE_IS_READ_ONLY, N_ITEMS, bundle_of
from small import cycle_settings, known_to, trainer_of

from recbole_fofa import load
from recbole_fofa.command_line import main
from recbole_fofa.errors import CheckpointError, ConfigError, FofaError
from recbole_fofa.quick_start import checked_config, load_data_and_model, run_recbole_fofa
from recbole_fofa.recommender.forward_ofa import ForwardOFA
from recbole_fofa.serving.from_training import write_bundle
from recbole_fofa.serving.model_bundle import MANIFEST, _digest, _json


def test_a_bundle_chooses_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that it was trained on may not be there where it answers."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    trainer, (train, *_) = trainer_of(tmp_path, gpu_id="3", use_gpu=False)
    write_bundle(tmp_path / "bundle", trainer.model, trainer.config, train._dataset, {})
    load(tmp_path / "bundle")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


def test_popularity_counts_first_items_too(tmp_path: Path) -> None:
    """They are nobody's target, and yet were taken."""
    trainer, (train, *_) = trainer_of(tmp_path)
    write_bundle(tmp_path / "bundle", trainer.model, trainer.config, train._dataset, {})
    counts = json.loads((tmp_path / "bundle" / "vocabulary.json").read_text())["counts"]
    matrix = train._dataset.inter_matrix("coo")
    assert counts == matrix.sum(0).tolist()[0][1:]
    assert sum(counts) == len(train._dataset) + (matrix.sum(1) > 0).sum()


def test_a_bundle_goes_where_a_link_points(tmp_path: Path) -> None:
    trainer, (train, *_) = trainer_of(tmp_path)
    (tmp_path / "current").symlink_to(tmp_path / "v1")
    (tmp_path / "v1").mkdir()
    for _ in range(2):
        write_bundle(tmp_path / "current", trainer.model, trainer.config, train._dataset, {})
        assert (tmp_path / "current").is_symlink() and (tmp_path / "v1" / MANIFEST).is_file()


class Astray(ForwardOFA):
    """A model that misses something that a history alone does not bring."""

    def decide(self, *_: Any) -> Any:
        raise AttributeError("no such thing")


def test_any_error_of_a_model_is_that_it_has_no_bundle(tmp_path: Path) -> None:
    trainer, (train, *_) = trainer_of(tmp_path)
    trainer.config.model_class = Astray
    with pytest.raises(ConfigError, match="history alone: no such thing"):
        write_bundle(tmp_path / "bundle", trainer.model, trainer.config, train._dataset, {})
    assert not (tmp_path / "bundle").exists()


class MyOFA(ForwardOFA):
    """A class of a user."""


def test_a_class_of_ones_own(tmp_path: Path) -> None:
    given = cycle_settings(tmp_path, epochs=1)
    run_recbole_fofa(MyOFA, config_dict=given)
    (folder,) = (tmp_path / "out" / "saved").glob("*-bundle")
    with pytest.raises(ConfigError, match="MyOFA"):
        load(folder)
    assert len(load(folder, model=MyOFA).recommend([["i1"]], 3)[0].items) == 3


@pytest.mark.parametrize(("model", "said"), [("HGN", "user_id"), ("BPR", "reads no histories")])
def test_models_that_cannot_answer_for_a_history_have_none(
    tmp_path: Path, model: str, said: str
) -> None:
    trainer, (train, *_) = trainer_of(tmp_path, model)
    with pytest.raises(ConfigError, match=said):
        write_bundle(tmp_path / "bundle", trainer.model, trainer.config, train._dataset, {})
    assert not list(tmp_path.glob("bundle*"))


def test_a_bundle_tells_nothing_of_its_machine_and_has_its_results(bundle: Path) -> None:
    text = "".join(path.read_text() for path in bundle.glob("*.json"))
    assert str(bundle.parent.parent.parent) not in text
    metrics = json.loads((bundle / "metrics.json").read_text())
    assert 0 <= metrics["test_result"]["ndcg@10"] <= 1
    assert "u1" not in json.loads((bundle / "vocabulary.json").read_text())["items"]


def test_the_same_run_gives_the_same_fingerprint(tmp_path: Path) -> None:
    marks = {
        json.loads((bundle_of(tmp_path / name, epochs=1) / MANIFEST).read_text())["fingerprint"]
        for name in ("a", "b")
    }
    assert len(marks) == 1


FILES = ("weights.safetensors", "vocabulary.json", "config.json", "metrics.json", MANIFEST)


@FIXTURE_IS_READ_ONLY
@given(
    name=st.sampled_from(FILES),
    place=st.floats(0, 1, exclude_max=True),
    damage=st.sampled_from(["flip", "cut", "remove", "insert"]),
    bit=st.integers(0, 7),
)
def test_a_damaged_bundle_is_refused(
    bundle: Path, tmp_path: Path, name: str, place: float, damage: str, bit: int
) -> None:
    folder = tmp_path / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bundle, folder)
    data = bytearray((folder / name).read_bytes())
    at = int(place * len(data))
    assume(damage != "cut" or data[at:].strip())  # a line's end is nothing that could be missing
    if damage == "remove":
        (folder / name).unlink()
    else:
        if damage == "flip":
            data[at] ^= 1 << bit
        elif damage == "cut":
            del data[at:]
        else:
            data[at:at] = b"\x00"
        (folder / name).write_bytes(data)
    with pytest.raises(CheckpointError):
        load(folder)


def sealed(folder: Path) -> None:
    """Make the checksums right again."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest.pop("fingerprint")
    for name in manifest["files"]:
        manifest["files"][name] = _digest((folder / name).read_bytes())
    manifest["fingerprint"] = _digest(_json(manifest))[:16]
    (folder / MANIFEST).write_bytes(_json(manifest))


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there after the module ``foreign`` was run."""
    (tmp_path / "foreign.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "ran"
    sys.modules.pop("foreign", None)


def test_hooks_that_a_file_names_are_not_run(
    bundle: Path, tmp_path: Path, ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "forged"
    shutil.copytree(bundle, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hooks": ["foreign.Hook"]}))
    sealed(folder)
    assert load(folder).recommend([["i1"]], 3)[0].items
    state = {"config": {"hooks": ["foreign.Hook"]}, "items": "", "state_dict": {}}
    torch.save({**state, "other_parameter": None}, tmp_path / "forged.pth")
    with pytest.raises(CheckpointError, match="other items"):
        load_data_and_model(tmp_path / "forged.pth")
    assert not ran.exists()


def test_a_text_that_recbole_would_run_is_refused() -> None:
    """Of a checkpoint's settings too: they are checked before the model is built."""
    with pytest.raises(ConfigError, match="teacher must be CrossNet or CIN"):
        checked_config(config_dict={"model": "KD_DAGFM", "teacher": "print(1) or CrossNet"})
    assert checked_config(config_dict={"model": "KD_DAGFM", "teacher": "CIN"})["teacher"] == "CIN"


def test_a_bundle_of_a_model_without_histories_is_refused(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "forged"
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "model": "BPR"}))
    (folder / "config.json").write_text('{"model": "BPR", "dataset": "cycle"}')
    sealed(folder)
    with pytest.raises(CheckpointError, match="BPR reads no histories"):
        load(folder)


plain = st.one_of(st.none(), st.integers(-5, 99), st.text(max_size=4), st.just([]), st.just({}))


@FIXTURE_IS_READ_ONLY
@given(name=st.sampled_from(FILES[1:]), data=st.data(), value=plain)
def test_a_forged_bundle_ends_in_a_clear_error_or_works(
    bundle: Path, tmp_path: Path, name: str, data: st.DataObject, value: Any
) -> None:
    folder = tmp_path / "forged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bundle, folder)
    content = json.loads((folder / name).read_text())
    key = data.draw(st.sampled_from(sorted(content)))
    content[key] = value
    (folder / name).write_text(json.dumps(content))
    try:
        sealed(folder)
    except (KeyError, TypeError, AttributeError, OSError):
        return  # not even a manifest
    with contextlib.suppress(FofaError):
        load(folder).recommend([["i1"]], 3)


def test_a_bundle_from_before_the_repeat_bias_is_what_it_was(tmp_path: Path) -> None:
    folder = bundle_of(tmp_path, repeat_bias="none")
    expected = load(folder).recommend([["i1", "i2"]], 5)
    content = json.loads((folder / "config.json").read_text())
    names = "repeat_bias", "repeat_seq_length", "repeats_as_negatives", "mapper_dropout"
    for name in names:
        del content[name]
    (folder / "config.json").write_text(json.dumps(content))
    sealed(folder)
    assert load(folder).recommend([["i1", "i2"]], 5) == expected


@pytest.mark.parametrize("name", ["format", "model", "other", "versions"])
def test_a_manifest_that_lacks_a_name(bundle: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "forged"
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest[name]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    sealed(folder)
    with contextlib.suppress(CheckpointError):
        load(folder)


def test_files_of_a_manifest_stay_in_the_folder(bundle: Path, tmp_path: Path) -> None:
    """Nothing outside of the folder is read because a manifest says so."""
    folder = tmp_path / "forged"
    shutil.copytree(bundle, folder)
    (tmp_path / "secret").write_text("x")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["../secret"] = ""
    (folder / MANIFEST).write_text(json.dumps(manifest))
    sealed(folder)
    with pytest.raises(CheckpointError, match="names other files"):
        load(folder)


def test_a_bundle_from_a_checkpoint(tmp_path: Path, capsys: Any) -> None:
    run_recbole_fofa(config_dict=cycle_settings(tmp_path, epochs=1))
    saved = tmp_path / "out" / "saved"
    (written,) = saved.glob("*-bundle")
    (checkpoint,) = (path for path in saved.glob("*.pth") if "-last" not in path.name)
    moved = tmp_path / "moved"
    shutil.move(tmp_path / "data", moved)
    words = ["bundle", "--checkpoint", str(checkpoint), "--output_dir", str(tmp_path / "b")]
    assert main(words) == 2  # the data are not where they were
    assert main([*words, f"--data_path={moved}"]) == 0
    assert capsys.readouterr().out.startswith("bundle ")
    histories = [["i1", "i3"], []]
    assert load(tmp_path / "b").recommend(histories) == load(written).recommend(histories)


@pytest.mark.parametrize("name", ["file", "folder", "."])
def test_only_a_bundle_is_replaced_by_a_bundle(
    bundle: Path, tmp_path: Path, name: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    (checkpoint,) = (path for path in bundle.parent.glob("*.pth") if "-last" not in path.name)
    monkeypatch.chdir(tmp_path)
    assert main(["bundle", "--checkpoint", str(checkpoint), "--output_dir", name]) == 2
    assert "is there and no bundle" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "mine"]


def test_a_bundle_that_is_replaced_takes_nothing_else_with_it(tmp_path: Path) -> None:
    trainer, (train, *_) = trainer_of(tmp_path)
    folder, neighbour = tmp_path / "bundle", tmp_path / "bundle.old"
    neighbour.mkdir()
    (neighbour / "mine").touch()
    for _ in range(2):
        write_bundle(folder, trainer.model, trainer.config, train._dataset, {})
    assert (neighbour / "mine").exists() and len(list(folder.iterdir())) == 5
    assert {path.name for path in tmp_path.iterdir()} >= {"bundle", "bundle.old"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_checkpoint_of_recbole_needs_trust(tmp_path: Path, capsys: Any) -> None:
    """Stock RecBole's own classes write it; the lists are those of RecBole's model."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.trainer import Trainer
    from recbole.utils import get_model, init_seed

    given = cycle_settings(tmp_path, epochs=1)
    given = {key: value for key, value in known_to("SASRec", given).items() if key != "dataset"}
    given |= {
        "data_path": str(tmp_path / "data"),
        "checkpoint_dir": str(tmp_path / "theirs"),
        "train_neg_sample_args": None,
    }
    config = Config(model="SASRec", dataset="cycle", config_dict=given)
    init_seed(1, True)
    train, *_ = data_preparation(config, dataset := create_dataset(config))
    model = get_model("SASRec")(config, train.dataset)
    trainer = Trainer(config, model)
    trainer.fit(train, show_progress=False)
    path = trainer.saved_model_file
    words = ["bundle", "--checkpoint", path, "--output_dir", str(tmp_path / "b")]
    assert main(words) == 2
    assert "--trust-pickle" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
    assert main([*words, "--trust-pickle"]) == 0
    shutil.rmtree(tmp_path / "data")
    ids = torch.tensor([[2, 5, 7, 0, 0, 0, 0, 0]])
    tokens = dataset.field2id_token["item_id"]
    from recbole.data.interaction import Interaction

    asked = Interaction({"item_id_list": ids, "item_length": torch.tensor([3])})
    with torch.no_grad():
        scores = model.eval().full_sort_predict(asked)
    answer = load(tmp_path / "b").recommend([tokens[[2, 5, 7]].tolist()], N_ITEMS)[0]
    expected = {str(tokens[i]): float(scores[0, i]) for i in range(1, N_ITEMS + 1)}
    assert dict(zip(answer.items, answer.scores, strict=True)) == pytest.approx(expected, abs=1e-5)
