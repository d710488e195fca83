"""Bundles and lists: anyone's history, without the data set, equal to the trained model."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import cycle_settings, known_to, trainer_of

from recbole_fofa import load, recommend_many
from recbole_fofa.command_line import main
from recbole_fofa.errors import CheckpointError, ConfigError, DataError, FofaError, OutputError
from recbole_fofa.quick_start import checked_config, load_data_and_model, run_recbole_fofa
from recbole_fofa.recommender.forward_ofa import ForwardOFA
from recbole_fofa.serving import many
from recbole_fofa.serving.from_training import write_bundle
from recbole_fofa.serving.model_bundle import MANIFEST, _digest, _json
from recbole_fofa.serving.recommend import Recommender, _best
from recbole_fofa.subcommands.shards import chosen_shard, shard_path

N_ITEMS = 15
TOKENS = [f"i{n}" for n in range(N_ITEMS)]
FIXTURE_IS_READ_ONLY = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None
)


def bundle_of(tmp_path: Path, model: str = "ForwardOFA", **changes: Any) -> Path:
    """Train on the ring, then take the data away."""
    given = cycle_settings(tmp_path, n_layers=3, keep_bias=0.0, **changes)
    names = {"output_dir", "quiet"}
    given = {**known_to(model, given), **{name: given[name] for name in names}}
    run_recbole_fofa(model, config_dict=given)
    (folder,) = (tmp_path / "out" / "saved").glob("*-bundle")
    shutil.rmtree(tmp_path / "data")
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_of(tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="module")
def recommender(bundle: Path) -> Recommender:
    return load(bundle, device="cpu")


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("ForwardOFA", {"n_layers": 3, "keep_bias": 0.0, "adapt_seq_length": 12}),
        ("ForwardOFA", {"budget_aware": True, "budget": 0.7}),
        ("DUET", {}),
        ("SASRec", {}),
        ("GRU4Rec", {}),
        ("NARM", {}),
    ],
)
def test_lists_are_those_of_the_trained_model(
    tmp_path: Path, model: str, changes: dict[str, Any]
) -> None:
    """E01: the same scores as in evaluation, for the same histories; twelve items each."""
    trainer, (train, _, test) = trainer_of(tmp_path, model, epochs=1, **changes)
    trainer.fit(train, saved=False)
    dataset = train._dataset
    write_bundle(tmp_path / "bundle", trainer.model, trainer.config, dataset, {})
    interaction = next(iter(test))[0]
    trainer.model.eval()
    with torch.no_grad():
        scores = trainer.model.full_sort_predict(interaction).view(len(interaction), -1)
    scores[:, 0] = -torch.inf
    everything = test._dataset.histories
    histories = [
        [dataset.field2id_token[dataset.iid_field][item] for item in row]
        for row in (
            everything.items[everything.users == user][:-1] for user in interaction["user_id"]
        )
    ]
    shutil.rmtree(tmp_path / "data")
    found = load(tmp_path / "bundle", device="cpu").recommend(histories, N_ITEMS)
    for own, answer in zip(scores, found, strict=True):
        tokens = dataset.field2id_token[dataset.iid_field]
        expected = {tokens[item]: float(own[item]) for item in range(1, N_ITEMS + 1)}
        assert dict(zip(answer.items, answer.scores, strict=True)) == pytest.approx(
            expected, abs=2e-5
        )
        assert answer.scores == sorted(answer.scores, reverse=True)
        assert (answer.structure is None) == (model != "ForwardOFA")


histories_of_tokens = st.lists(
    st.lists(st.sampled_from([*TOKENS, "i99", 3, "[PAD]", ""]), max_size=20), max_size=8
)


@FIXTURE_IS_READ_ONLY
@given(histories=histories_of_tokens, k=st.integers(1, 20), masked=st.booleans())
def test_alone_and_together_give_the_same(
    recommender: Recommender, histories: list[list[Any]], k: int, masked: bool
) -> None:
    together = recommender.recommend(histories, k, mask_history=masked)
    assert len(together) == len(histories)
    for history, answer in zip(histories, together, strict=True):
        alone = recommender.recommend([history], k, mask_history=masked)[0]
        assert alone.scores == pytest.approx(answer.scores, abs=1e-5)
        assert (alone.structure, alone.n_unknown) == (answer.structure, answer.n_unknown)
        known = [token for token in history if token in TOKENS]
        assert answer.n_unknown == len(history) - len(known)
        assert answer.source == ("model" if known else "popularity")
        left = N_ITEMS - (len(set(known)) if masked else 0)
        assert len(answer.items) == len(set(answer.items)) == min(k, left)
        assert set(answer.items) <= set(TOKENS) and np.isfinite(answer.scores).all()
        assert not (masked and set(answer.items) & set(known))


def test_only_the_newest_items_of_a_long_history_count(recommender: Recommender) -> None:
    newest = ["i3", "i5", "i7", "i9", "i11", "i13", "i0", "i2"]
    short, long = recommender.recommend([newest, [*TOKENS * 100, *newest]], 5)
    assert short == long


def test_numbers_are_tokens_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "data" / "numbers" / "numbers.inter"
    path.parent.mkdir(parents=True)
    rows = [f"{u}\t{u % 5 + step}\t{step}" for u in range(20) for step in range(6)]
    path.write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(rows) + "\n")
    recommender = load(bundle_of(tmp_path, dataset=str(path)))
    texts = recommender.recommend([["1", "2"]], 3)
    assert recommender.recommend([[1, 2]], 3) == texts
    assert recommender.recommend(np.array([[1, 2]]), 3) == texts
    assert [recommender.recommend([1, 2], 3)] == texts  # one history, one answer
    assert recommender.recommend([], 3) == []


def test_a_column_of_histories_may_have_any_labels(recommender: Recommender) -> None:
    histories = [["i1", "i2"], ["i3"]]
    column = pd.Series(histories, index=["u7", "u8"])
    assert recommender.recommend(column, 3) == recommender.recommend(histories, 3)


@given(
    rows=st.integers(1, 4).flatmap(
        lambda n: st.lists(
            st.lists(st.sampled_from([0.0, 1.0, 2.0, -np.inf]), min_size=40, max_size=40),
            min_size=n,
            max_size=n,
        )
    ),
    k=st.integers(0, 40),
)
def test_of_equal_scores_the_lower_number_is_first(rows: list[list[float]], k: int) -> None:
    scores = np.array(rows, dtype=np.float32)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    for row, own, found in zip(scores, expected, _best(scores, k), strict=True):
        n_finite = int(np.isfinite(row[own]).sum())
        assert found[:n_finite].tolist() == own[:n_finite].tolist()
        assert not np.isfinite(row[found[n_finite:]]).any()


@pytest.mark.parametrize(
    ("histories", "said"),
    [
        ([["i1"], "i2"], "history 1 must be a list of item tokens, not 'i2'"),
        ([[1.5]], "history 0 holds 1.5"),
        ([[None]], "history 0 holds None"),
        ([[True]], "history 0 holds True"),
        ([["i1"], 7], "history 1 must be a list"),
    ],
)
def test_what_is_no_history_is_refused(recommender: Recommender, histories: Any, said: str) -> None:
    with pytest.raises(DataError) as caught:
        recommender.recommend(histories)
    assert said in str(caught.value)


def test_candidates(recommender: Recommender) -> None:
    answers = recommender.recommend([["i1"], []], 10, candidates=["i4", "i2", "i4", "new"])
    assert [sorted(answer.items) for answer in answers] == [["i2", "i4"]] * 2
    everything = recommender.recommend([["i1"]], N_ITEMS)[0]
    scores = dict(zip(everything.items, everything.scores, strict=True))
    assert answers[0].scores == pytest.approx(sorted((scores["i4"], scores["i2"]), reverse=True))
    assert recommender.recommend([["i1"]], 5, candidates=["new"])[0].items == []


def test_a_profile_limits_structures(bundle: Path, tmp_path: Path) -> None:
    recommender = load(bundle)
    for head in recommender.model.network.controller.head.parameters():
        torch.nn.init.ones_(head)  # keep everything, or drop it: both margins are equal
    with torch.no_grad():
        recommender.model.network.controller.head.bias[1::2] += 5.0
    macs = recommender.model.network.block_macs
    profile = tmp_path / "tiny.yaml"
    profile.write_text(
        f"name: tiny\nmax_macs: {int(1.5 * macs[0] + 1000)}\nmax_payload_bytes: 10000000\n"
        "max_memory_bytes: 100000000\nprecision: fp32\n"
    )
    free, limited = (
        recommender.recommend([["i1", "i3"]], 3, profile=name)[0].structure
        for name in (None, str(profile))
    )
    assert free == "111" and limited.count("1") == 1
    for n in range(1, 4):
        recommender.recommend([["i1"]], 3, profile=str(profile), candidates=TOKENS[:n])
    assert len(recommender._limits) == 4
    assert not any(info.items for info in recommender._limits.values())


def test_faults_of_a_call(bundle: Path, tmp_path: Path) -> None:
    recommender = load(bundle)
    for k in (0, -1, 2.5, True):
        with pytest.raises(ConfigError, match="k must be"):
            recommender.recommend([["i1"]], k)
    with pytest.raises(ConfigError, match="profile"):
        recommender.recommend([["i1"]], profile="nosuch")
    with pytest.raises(ConfigError, match="device must be"):
        load(bundle, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no GPU"):
            load(bundle, device="cuda")
    with pytest.raises(CheckpointError, match="no bundle in"):
        load(tmp_path)
    checkpoint = next(path for path in bundle.parent.glob("*.pth"))
    with pytest.raises(CheckpointError, match="bundle --checkpoint"):
        load(checkpoint)


def test_a_model_without_structures_has_no_profiles(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SASRec has no structures"):
        load(bundle_of(tmp_path, "SASRec", epochs=1)).recommend([["i1"]], profile="low")


def test_a_bundle_chooses_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that it was trained on may not be there where it answers."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    trainer, (train, *_) = trainer_of(tmp_path, gpu_id="3", use_gpu=False)
    write_bundle(tmp_path / "bundle", trainer.model, trainer.config, train._dataset, {})
    load(tmp_path / "bundle")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


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
    except (KeyError, TypeError, AttributeError):
        return  # not even a manifest
    with contextlib.suppress(FofaError):
        load(folder).recommend([["i1"]], 3)


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


def write_histories(path: Path, n: int = 300) -> list[list[str]]:
    draw = random.Random(4)
    histories = [draw.choices([*TOKENS, "new"], k=draw.randrange(12)) for _ in range(n)]
    if path.suffix == ".jsonl":
        lines = [
            json.dumps(h if i % 2 else {"user": f"u{i}", "history": h})
            for i, h in enumerate(histories)
        ]
    else:
        lines = [f"u{i}\t{' '.join(h)}" if i % 2 else " ".join(h) for i, h in enumerate(histories)]
    path.write_text("\n".join(lines) + "\n")
    return histories


def recommend(bundle: Path, *words: str) -> int:
    return main(["recommend", "--bundle", str(bundle), *words, "-q"])


@pytest.mark.parametrize("name", ["histories.txt", "histories.jsonl"])
def test_a_file_of_histories(
    bundle: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / name, tmp_path / "lists.jsonl"
    histories = write_histories(source)
    assert recommend(bundle, "--histories", str(source), "--output", str(target), "-k", "3") == 0
    assert "300 histories in" in capsys.readouterr().out
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    expected = load(bundle).recommend(histories, 3)
    for number, (line, answer) in enumerate(zip(lines, expected, strict=True)):
        has_user = (number % 2 == 0) == (name == "histories.jsonl")
        assert line.get("user") == (f"u{number}" if has_user else None)
        assert line["scores"] == pytest.approx(answer.scores, abs=1e-5)
        assert line["n_unknown"] == answer.n_unknown and line["source"] == answer.source
    assert [path.name for path in tmp_path.iterdir() if "lists" in path.name] == ["lists.jsonl"]
    # In parts, which one after the other are the whole.
    for number in (1, 2, 3):
        shard = f"{number}/3"
        words = ["--histories", str(source), "--output", str(target), "-k", "3", "--shard", shard]
        assert recommend(bundle, *words) == 0
    parts = sorted(tmp_path.glob("lists-*-of-00003.jsonl"))
    assert len(parts) == 3
    again = [json.loads(line) for path in parts for line in path.read_text().splitlines()]
    for one, other in zip(lines, again, strict=True):
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)


@FIXTURE_IS_READ_ONLY
@given(n_chunks=st.integers(0, 4), torn=st.integers(0, 900))
def test_an_interrupted_call_goes_on(
    recommender: Recommender, tmp_path: Path, n_chunks: int, torn: int
) -> None:
    """Killed after some chunks, with the last bytes not yet on the disk."""
    source, target = tmp_path / "histories.txt", tmp_path / "lists.jsonl"
    part = tmp_path / "lists.jsonl.part"
    write_histories(source, 40)

    def run(k: int = 3) -> list[Any]:
        totals = recommend_many(recommender, source, target, k, show_progress=False)
        assert totals.histories + totals.resumed == 40
        return [json.loads(line) for line in target.read_text().splitlines()]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(many, "HISTORIES_AT_ONCE", 8)
        expected = run()
        target.unlink()
        patch.setattr(recommender, "answerer", killed_after(n_chunks, recommender.answerer))
        with pytest.raises(Killed):
            run()
        patch.undo()
        patch.setattr(many, "HISTORIES_AT_ONCE", 8)
        kept = part.read_bytes()
        part.write_bytes(kept[: max(0, len(kept) - torn)])
        with pytest.raises(DataError, match="differs in k"):
            run(k=4)
        assert run() == expected  # to the last digit
    assert sorted(tmp_path.iterdir()) == [source, target]


def test_two_calls_do_not_write_one_file(recommender: Recommender, tmp_path: Path) -> None:
    source, target = tmp_path / "histories.txt", tmp_path / "lists.jsonl"
    write_histories(source, 30)

    def answerer(*how: Any, **options: Any) -> Any:
        answer = build(*how, **options)

        def meddled(histories: Any) -> Any:
            patch.undo()
            with pytest.raises(OutputError, match="another process"):
                recommend_many(recommender, source, target, 3, show_progress=False)
            return answer(histories)

        return meddled

    build = recommender.answerer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recommender, "answerer", answerer)
        recommend_many(recommender, source, target, 3, show_progress=False)
    assert len(target.read_text().splitlines()) == 30


class Killed(Exception):
    """Stands for the end of the process."""


def killed_after(n_chunks: int, answerer: Any) -> Any:
    def build(*how: Any, **options: Any) -> Any:
        answer, left = answerer(*how, **options), [n_chunks]

        def dying(histories: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return answer(histories)

        return dying

    return build


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("a.jsonl", '{"user": 1}', "line 3: needs a list of tokens"),
        ("a.jsonl", "[1.5]", "line 3 holds 1.5"),
        ("a.jsonl", "[1", "line 3: "),
        ("a.jsonl", '{"user": "\\ud800", "history": []}', "line 3: "),
        ("a.txt", b"\xff", "line 3: "),
    ],
)
def test_a_malformed_line_is_told_before_anything_is_written(
    bundle: Path, tmp_path: Path, name: str, line: Any, said: str, capsys: Any
) -> None:
    source = tmp_path / name
    data = line if isinstance(line, bytes) else line.encode()
    source.write_bytes(b"[]\n\n" + data + b"\n")
    words = ["--histories", str(source), "--output", str(tmp_path / "out.jsonl")]
    assert recommend(bundle, *words) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_part_of_a_launchers_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable alone, which other programs set too, is no launcher's."""
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert chosen_shard(None) == (0, 1)
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    assert (chosen_shard(None), chosen_shard((0, 2))) == ((3, 4), (0, 2))


def test_the_parts_of_a_folder_without_a_name_stand_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"{tmp_path.name}-00002-of-00008"
    assert shard_path(".", (1, 8)) == tmp_path.parent / name
    assert shard_path("lists.jsonl", (1, 8)) == Path("lists-00002-of-00008.jsonl")
    assert shard_path(".", (0, 1)) == Path(".")


def test_what_cannot_take_the_lists_is_told_first(bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "histories.txt"
    write_histories(source, 3)
    before = source.read_text()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.txt").symlink_to(source)
    found = sorted(tmp_path.iterdir())
    for name, said in [
        ("histories.txt", "is the file of the histories"),
        ("link.txt", "is the file of the histories"),
        ("folder", "it is a folder"),
    ]:
        with pytest.raises(DataError, match=said):
            recommend_many(load(bundle), source, tmp_path / name, show_progress=False)
    assert source.read_text() == before and sorted(tmp_path.iterdir()) == found


def test_all_that_follows_the_first_tab_is_history(
    recommender: Recommender, tmp_path: Path
) -> None:
    source, target = tmp_path / "histories.txt", tmp_path / "lists.jsonl"
    source.write_text("u1\ti1\tnew\ti3\r\nu2\ti1\t\n\ti1 new\nu3\t\n")
    recommend_many(recommender, source, target, show_progress=False)
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [line["user"] for line in lines] == ["u1", "u2", "", "u3"]
    assert [line["n_unknown"] for line in lines] == [1, 0, 1, 0]
    assert [line["source"] for line in lines] == ["model", "model", "model", "popularity"]
    assert lines[0]["items"] == recommender.recommend(["i1", "i3"]).items


def test_memory_does_not_grow_with_what_was_done_before(tmp_path: Path) -> None:
    """Places of lines that stay are not kept: 16,384 lines would be half a megabyte of them."""
    part = tmp_path / "lists.jsonl.part"
    part.write_bytes(b"x" * 30 + b"\n" + b"{}\n" * (16 * many.HISTORIES_AT_ONCE + 7) + b"{")
    tracemalloc.start()
    try:
        assert many._keep_whole_chunks(part) == 16 * many.HISTORIES_AT_ONCE
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert part.stat().st_size == 31 + 3 * (16 * many.HISTORIES_AT_ONCE - 1)
    assert peak < 200_000


def test_other_candidates_are_another_call(recommender: Recommender, tmp_path: Path) -> None:
    """Also where numpy's own text shows the first and last three alone."""
    source, target = tmp_path / "histories.txt", tmp_path / "lists.jsonl"
    write_histories(source, 3)
    one, other = np.arange(2000), np.arange(2000)
    other[1000] = 7
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recommender, "answerer", killed_after(0, recommender.answerer))
        with pytest.raises(Killed):
            recommend_many(recommender, source, target, candidates=one, show_progress=False)
    with pytest.raises(DataError, match="differs in options"):
        recommend_many(recommender, source, target, candidates=other, show_progress=False)


def test_one_history_on_the_command_line(bundle: Path, capsys: Any) -> None:
    assert recommend(bundle, "--history", "i1 i3,new", "-k", "2") == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("by model, structure ") and first.endswith("1 unknown items left out")
    answer = load(bundle).recommend([["i1", "i3", "new"]], 2)[0]
    assert [line.split()[1] for line in rest] == answer.items
    assert recommend(bundle, "--histories", "x") == 2
    assert "--output" in capsys.readouterr().err
    assert recommend(bundle, "--histories", "nosuch", "--output", "x") == 2
    assert "nosuch cannot be read" in capsys.readouterr().err


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
