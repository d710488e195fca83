"""The device-adaptation evaluator: RecBole's numbers, costs within limits, honest rows."""

from __future__ import annotations

import csv
import gzip
import json
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import cycle_settings, known_to, trainer_of
from two_kinds import write_two_kinds

from recbole_fofa.cloud.assemble import device_limits
from recbole_fofa.command_line import main
from recbole_fofa.device_profile import DeviceProfile
from recbole_fofa.errors import ConfigError, DataError
from recbole_fofa.evaluator import cases as cases_module
from recbole_fofa.evaluator.evaluate import evaluate_on_devices
from recbole_fofa.evaluator.prepare import Options
from recbole_fofa.evaluator.report import tables
from recbole_fofa.evaluator.result import CHOSEN, SHUFFLED, DeviceReport, Row
from recbole_fofa.quick_start import run_recbole_fofa

FREE = DeviceProfile(name="free")
EXACT: dict[str, Any] = {
    "metric_decimal_place": 12,
    "metrics": ["NDCG", "Hit", "MRR", "Recall", "Precision", "MAP"],
    "topk": [3, 10],
}


def random_gates(trainer: Any) -> Any:
    """As if trained: gates and embeddings that differ visibly."""
    torch.manual_seed(7)
    with torch.no_grad():
        trainer.model.item_embedding.weight.mul_(20)
        for name, value in trainer.model.named_parameters():
            if "base" in name:
                value.add_(torch.randn_like(value) * 0.3)
            if name.endswith("controller.head.weight"):
                value.normal_(std=2.0)
    return trainer.model


def report_of(
    tmp_path: Path, model: Any, loaders: Any, *profiles: DeviceProfile, **how: Any
) -> DeviceReport:
    train, _, test = loaders
    options = Options(profiles or (FREE,), **{"ages": (), "times": False, **how})
    return evaluate_on_devices(model, train, test, options, tmp_path / "report")


def row_of(report: DeviceReport, way: str) -> Row:
    return next(row for row in report.rows if row.way == way)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("regime", ["session", "prefix"])
def test_metrics_are_those_of_recbole(tmp_path: Path, masked: bool, regime: str) -> None:
    """Its own evaluator on the same scores; the ring repeats no item within a history."""
    settings = {"mask_history": masked, "train_regime": regime, "n_layers": 3, **EXACT}
    trainer, loaders = trainer_of(tmp_path, **settings)
    model = random_gates(trainer)
    report = report_of(tmp_path, model, loaders, mask_history=masked)
    chosen = trainer.evaluate(loaders[2], load_best_model=False)
    assert row_of(report, CHOSEN).metrics == pytest.approx(chosen, abs=1e-6)
    model.keep_all = True
    everything = trainer.evaluate(loaders[2], load_best_model=False)
    assert row_of(report, "all blocks for everybody").metrics == pytest.approx(everything, abs=1e-6)
    assert chosen != everything
    assert 0 < chosen["ndcg@10"] < 1


def test_other_models_have_one_row_of_recbole_metrics(tmp_path: Path) -> None:
    for name in ("SASRec", "DUET"):
        trainer, loaders = trainer_of(tmp_path / name, name, **EXACT)
        report = report_of(tmp_path / name, random_gates(trainer), loaders, FREE)
        (row,) = report.rows
        expected = trainer.evaluate(loaders[2], load_best_model=False)
        assert row.metrics == pytest.approx(expected, abs=1e-6)
        assert row.way == name and row.macs == {} and report.staleness == []


def test_per_user_values_are_those_of_the_table(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path, **EXACT)
    report = report_of(tmp_path, random_gates(trainer), loaders)
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    with gzip.open(tmp_path / "report" / "per_user.csv.gz", "rt") as lines:
        for line in csv.DictReader(lines):
            found[line["row"]].append(line)
    assert list(found) == [row.label for row in report.rows]
    for row in report.rows:
        own = found[row.label]
        assert len({line["user"] for line in own}) == len(own) == row.n == 60
        for name, mean in row.metrics.items():
            values = [float(line[name]) for line in own]
            assert np.mean(values) == pytest.approx(mean, abs=1e-12)
            error = np.std(values, ddof=1) / np.sqrt(len(values))
            assert row.errors[name] == pytest.approx(error, abs=1e-9)
        codes = [line["structure"] for line in own]
        assert {code: codes.count(code) for code in codes} == row.counts
        hits = [1 <= int(line["rank"]) <= 3 for line in own]
        assert np.mean(hits) == row.metrics["hit@3"]


def test_without_yardsticks_the_rest_is_the_same(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path)
    model = random_gates(trainer)
    whole = report_of(tmp_path / "whole", model, loaders, ages=(1,))
    alone = report_of(tmp_path / "alone", model, loaders, ages=(1,), yardsticks=False)
    assert [row.way for row in alone.rows] == [CHOSEN] and len(whole.rows) == 4
    assert alone.rows == whole.rows[:1] and alone.staleness == whole.staleness


def test_two_calls_give_equal_bytes(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path, n_layers=3)
    model = random_gates(trainer)
    files = []
    before = torch.get_rng_state()
    for number in range(2):
        how = {"candidates": "uni3", "ages": (1, 3)}
        report = report_of(tmp_path / str(number), model, loaders, **how)
        files.append((asdict(report), (tmp_path / f"{number}/report/per_user.csv.gz").read_bytes()))
    assert files[0] == files[1]
    assert torch.equal(before, torch.get_rng_state())  # nothing random was drawn from the user's


@pytest.mark.parametrize("budget_aware", [False, True])
def test_no_profile_is_exceeded(tmp_path: Path, budget_aware: bool) -> None:
    trainer, loaders = trainer_of(tmp_path, n_layers=3, budget_aware=budget_aware)
    model = random_gates(trainer)
    block = model.network.block_macs[0]
    profiles = [
        DeviceProfile(name=f"k{k}", max_macs=k * block, precision="int8") for k in (1, 2, 3)
    ]
    report = report_of(tmp_path, model, loaders, *profiles)
    for row in report.rows:
        assert row.violations == 0
        assert sum(row.counts.values()) == row.n
    for k, profile in enumerate(profiles, start=1):
        own = [row for row in report.rows if row.profile == profile.name]
        assert {row.way for row in own} == {CHOSEN, SHUFFLED}
        assert all(row.macs["p95"] <= k * block for row in own)
        # The same structures, given to other users.
        assert own[0].counts == own[1].counts and own[0].macs == own[1].macs


def test_a_violation_would_be_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count is of what was chosen, not of what was asked for."""
    trainer, loaders = trainer_of(tmp_path, n_layers=3)
    model = random_gates(trainer)

    def no_limits(*arguments: Any) -> Any:
        budget, allowed = device_limits(*arguments)
        return budget, torch.ones_like(allowed)

    monkeypatch.setattr("recbole_fofa.evaluator.device_adaptation.device_limits", no_limits)
    small = DeviceProfile(name="small", max_macs=model.network.block_macs[0])
    row = row_of(report_of(tmp_path, model, loaders, small), CHOSEN)
    assert row.violations == sum(n for code, n in row.counts.items() if code.count("1") > 1) > 0


def test_two_kinds_of_users_get_two_structures(tmp_path: Path) -> None:
    """Where half of the users need depth, choosing beats chance at equal cost."""
    trainer, loaders = trainer_of(
        tmp_path,
        dataset=str(write_two_kinds(tmp_path / "data")),
        n_layers=2,
        inner_size=16,
        session_length=8,
        use_mapper=False,
        epochs=40,
        stopping_step=40,
        learning_rate=0.01,
        learning_rate_decay=0.96,
        hidden_dropout_prob=0.0,
        valid_metric="NDCG@3",
        topk=[1, 3],
    )
    trainer.fit(*loaders[:2])
    trainer.evaluate(loaders[2])  # loads the best epoch
    report = report_of(tmp_path, trainer.model, loaders)
    chosen, shuffled = row_of(report, CHOSEN), row_of(report, SHUFFLED)
    assert len(chosen.counts) == 2
    assert chosen.macs == shuffled.macs and chosen.macs_share < 1
    assert chosen.metrics["ndcg@1"] > shuffled.metrics["ndcg@1"] + 0.02
    assert chosen.metrics["ndcg@3"] > shuffled.metrics["ndcg@3"] + 0.01


def test_stale_payloads_are_made_from_older_behaviour(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path, n_layers=3, MAX_ITEM_LIST_LENGTH=5)
    model = random_gates(trainer)
    report = report_of(tmp_path, model, loaders, ages=(9, 2, 2))
    assert [row.age for row in report.staleness] == [0, 2, 9]
    fresh = row_of(report, CHOSEN)
    # Histories of 11 items: all reach an age of 9, so that age 0 is the row of all cases.
    assert report.staleness[0].metrics == fresh.metrics
    assert report.staleness[0].counts == fresh.counts
    assert report.staleness[2].counts != fresh.counts
    none = report_of(tmp_path, model, loaders, ages=(11,))
    assert [(row.n, row.metrics) for row in none.staleness] == [(0, {})] * 2


def test_slices_are_parts_of_the_whole(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path)
    row = row_of(report_of(tmp_path, random_gates(trainer), loaders), CHOSEN)
    for kind in ("activity", "history", "target"):
        own = [found for name, found in row.slices.items() if name.startswith(kind)]
        assert sum(found.n for found in own) == row.n
        total = sum(found.n * found.metrics["ndcg@10"] for found in own if found.n)
        assert total / row.n == pytest.approx(row.metrics["ndcg@10"])
    # All histories are of 11 items: the other bins are empty and say so.
    assert row.slices["history: 6 to 20 items"].n == 60
    assert row.slices["history: 21 to 50 items"].metrics == {}


def test_cold_targets_and_one_user(tmp_path: Path) -> None:
    """A test split of one user whose target nobody was trained on."""
    path = tmp_path / "data" / "one.inter"
    path.parent.mkdir()
    rows = [f"u\t{item}\t{step}" for step, item in enumerate("abcdefgh")]
    path.write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(rows) + "\n")
    trainer, loaders = trainer_of(tmp_path, dataset=str(path), topk=[3], valid_metric="NDCG@3")
    report = report_of(tmp_path, random_gates(trainer), loaders, ages=(1,))
    row = row_of(report, CHOSEN)
    assert (row.n, row.slices["target: cold"].n, row.slices["target: in training"].n) == (1, 1, 0)
    assert row.slices["target: in training"].metrics == {}
    assert report.protocol["n_users"] == 1 and row.violations == 0


def test_memory_is_that_of_what_is_ranked(tmp_path: Path) -> None:
    """Candidates and recent items are cached, not the whole catalogue."""
    trainer, loaders = trainer_of(tmp_path, MAX_ITEM_LIST_LENGTH=3, adapt_seq_length=4)
    full = row_of(report_of(tmp_path, trainer.model, loaders), CHOSEN)
    some = row_of(report_of(tmp_path, trainer.model, loaders, candidates="retrieval5"), CHOSEN)
    names = sum(len(f'"i{item}",') for item in range(9, 15))
    saved = full.memory_bytes["mean"] - some.memory_bytes["mean"]
    assert saved == pytest.approx((15 - (5 + 4)) * 16 * 4 + names, abs=16)


def test_profiles_that_nothing_fits_are_all_told(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path)
    tiny = DeviceProfile(name="tiny", max_memory_bytes=10)
    poor = DeviceProfile(name="poor", max_payload_bytes=1)
    with pytest.raises(ConfigError) as caught:
        report_of(tmp_path, trainer.model, loaders, tiny, FREE, poor)
    assert len(caught.value.faults) == 2
    assert "device profile tiny" in caught.value.faults[0]
    assert "max_payload_bytes 1" in caught.value.faults[1]
    assert not (tmp_path / "report").exists()


def test_options_that_cannot_be(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path)
    with pytest.raises(ConfigError) as caught:
        how = {"candidates": str(tmp_path / "none.npy"), "ages": (0,)}
        report_of(tmp_path, trainer.model, loaders, FREE, FREE, **how)
    text = str(caught.value)
    assert "one name (free, free)" in text and "none.npy" in text and "ages" in text
    with pytest.raises(ConfigError, match="no device profile is given"):
        evaluate_on_devices(trainer.model, *loaders[::2], Options([]), tmp_path / "report")
    with pytest.raises(ConfigError, match=r"seed must be a whole number from 0.*got -1"):
        report_of(tmp_path, trainer.model, loaders, seed=-1)
    with pytest.raises(ConfigError, match="candidates must be full, uni99"):
        report_of(tmp_path, trainer.model, loaders, candidates="some")


def test_models_without_histories_are_told(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path, "Pop")
    with pytest.raises(ConfigError, match="has no histories for this model"):
        report_of(tmp_path, trainer.model, loaders)


def test_models_that_do_not_rank_all_items_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, loaders = trainer_of(tmp_path, "SASRec")

    def full_sort_predict(_: Any) -> Any:
        raise NotImplementedError

    monkeypatch.setattr(trainer.model, "full_sort_predict", full_sort_predict)
    with pytest.raises(ConfigError, match="SASRec gives no scores of all items"):
        report_of(tmp_path, trainer.model, loaders)
    assert not (tmp_path / "report").exists()


def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = cycle_settings(tmp_path, epochs=1)
    run_recbole_fofa(config_dict=settings)
    (path,) = (p for p in (tmp_path / "out").rglob("*.pth") if "-last" not in p.name)
    words = ["device-eval", "--checkpoint", str(path), "--ages", "none", "-q"]
    (tmp_path / "file").write_text("")
    assert main([*words, "--output_dir", str(tmp_path / "file" / "below")]) == 2
    assert "file/below (--output_dir)" in capsys.readouterr().err
    (tmp_path / "taken" / "per_user.csv.gz.part").mkdir(parents=True)
    assert main([*words, "--output_dir", str(tmp_path / "taken")]) == 2
    assert "cannot write to" in capsys.readouterr().err


def test_metrics_without_values_of_users_are_told(tmp_path: Path) -> None:
    changes = {"metrics": ["ItemCoverage"], "valid_metric": "ItemCoverage@10"}
    trainer, loaders = trainer_of(tmp_path, **changes)
    with pytest.raises(ConfigError, match=r"ItemCoverage.*has values of single users"):
        report_of(tmp_path, trainer.model, loaders)


def test_several_targets_of_a_user(tmp_path: Path) -> None:
    """A split by ratio has several cases a user."""
    split = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": "user", "mode": "full"}
    trainer, loaders = trainer_of(tmp_path, eval_args=split, **EXACT)
    report = report_of(tmp_path, random_gates(trainer), loaders)
    assert report.protocol["n_cases"] > report.protocol["n_users"] == 60
    expected = trainer.evaluate(loaders[2], load_best_model=False)
    assert row_of(report, CHOSEN).metrics == pytest.approx(expected, abs=1e-6)


def test_last_digits_alone_depend_on_the_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, loaders = trainer_of(tmp_path, n_layers=3)
    model = random_gates(trainer)
    whole = row_of(report_of(tmp_path, model, loaders), CHOSEN)
    monkeypatch.setattr(cases_module, "CHUNK", 7)
    model.settings = model.settings.model_copy(update={"adapt_chunk": 3})
    parts = row_of(report_of(tmp_path, model, loaders), CHOSEN)
    assert parts.metrics == pytest.approx(whole.metrics) and parts.counts == whole.counts


def test_a_run_ends_with_the_report(tmp_path: Path) -> None:
    settings = cycle_settings(tmp_path, epochs=1, device_eval=True, device_profiles=["mid"])
    result = run_recbole_fofa(config_dict=settings)
    (folder,) = (tmp_path / "out" / "saved").glob("*-devices")
    written = json.loads((folder / "report.json").read_text())
    (row,) = (row for row in written["rows"] if row["profile"] == "mid" and row["way"] == CHOSEN)
    assert row["metrics"]["ndcg@10"] == pytest.approx(result["test_result"]["ndcg@10"], abs=1e-4)
    assert {"report.html", "report.md"} <= {path.name for path in folder.iterdir()}


def test_faults_of_the_report_are_told_before_training(tmp_path: Path) -> None:
    settings = cycle_settings(
        tmp_path, device_eval=True, device_profiles=["lwo"], device_candidates="uni"
    )
    with pytest.raises(ConfigError) as caught:
        run_recbole_fofa(config_dict=settings)
    assert "did you mean 'low'" in str(caught.value) and "got 'uni'" in str(caught.value)
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text("max_memory_bytes: 10\n")
    settings |= {"device_profiles": [str(tiny)], "device_candidates": "full"}
    with pytest.raises(ConfigError, match="no structure fits device profile tiny"):
        run_recbole_fofa(config_dict=settings)
    assert not list((tmp_path / "out").rglob("*.pth"))
    with pytest.raises(ConfigError, match="device_eval: true is for sequential models"):
        run_recbole_fofa("BPR", config_dict=cycle_settings(tmp_path, device_eval=True))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"metrics": ["ItemCoverage"], "valid_metric": "ItemCoverage@10"}, "single users"),
        ({"device_candidates": "uni12"}, "fewer than 12 candidates"),
    ],
)
def test_what_the_data_forbid_is_told_before_training(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    settings = cycle_settings(tmp_path, device_eval=True, **changes)
    with pytest.raises((ConfigError, DataError), match=told):
        run_recbole_fofa(config_dict=settings)
    assert not list((tmp_path / "out").rglob("*.pth"))


def test_a_report_that_cannot_be_written_loses_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recbole_fofa.quick_start.publish", full)
    result = run_recbole_fofa(config_dict=cycle_settings(tmp_path, epochs=1, device_eval=True))
    assert result["test_result"]["ndcg@10"] > 0
    assert "report could not be written" in caplog.text


def test_a_profile_that_fits_the_candidates_fits_their_file(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path, MAX_ITEM_LIST_LENGTH=3, adapt_seq_length=4)
    model = random_gates(trainer)
    whole = row_of(report_of(tmp_path, model, loaders), "first 1 of 2 blocks for everybody")
    limit = int(whole.memory_bytes["mean"]) - 200
    tight = DeviceProfile(name="tight", max_memory_bytes=limit)
    made = report_of(tmp_path, model, loaders, tight, candidates="uni3")
    file = tmp_path / "report" / "uni3-seed0.npy"
    again = report_of(tmp_path, model, loaders, tight, candidates=str(file))
    assert [row.metrics for row in again.rows] == [row.metrics for row in made.rows]


def test_shuffling_goes_over_all_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not within a chunk: users of one kind may stand side by side."""
    monkeypatch.setattr(cases_module, "CHUNK", 1)
    trainer, loaders = trainer_of(tmp_path, n_layers=3)
    report_of(tmp_path, random_gates(trainer), loaders)
    found: dict[str, list[str]] = defaultdict(list)
    with gzip.open(tmp_path / "report" / "per_user.csv.gz", "rt") as lines:
        for line in csv.DictReader(lines):
            found[line["row"]].append(line["structure"])
    chosen, shuffled = found[f"free: {CHOSEN}"], found[f"free: {SHUFFLED}"]
    assert sorted(chosen) == sorted(shuffled) and chosen != shuffled


def test_what_is_not_adapted_is_said(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path, use_controller=False, use_mapper=False)
    report = report_of(tmp_path, random_gates(trainer), loaders)
    note = tables(report)[0].note
    assert "chooses nothing" in note and "All users share the parameters" in note


def test_latency_leaves_the_generator_alone(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path)
    model = random_gates(trainer)
    state = torch.get_rng_state()
    report = report_of(tmp_path, model, loaders, times=True)
    assert torch.equal(state, torch.get_rng_state())
    assert set(report.measured["request_ms_by_kept_blocks"]) == {"0", "1", "2"}


def test_foreign_checkpoints_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_recbole_fofa(config_dict=cycle_settings(tmp_path, epochs=1))
    (path,) = (p for p in (tmp_path / "out").rglob("*.pth") if "-last" not in p.name)
    state = torch.load(path, weights_only=True)
    for name in ("items", "other_parameter", "config"):
        torch.save({key: value for key, value in state.items() if key != name}, path)
        assert main(["device-eval", "--checkpoint", str(path)]) == 2
        assert "is not a checkpoint of recbole_fofa" in capsys.readouterr().err
    weights = {name: value[:1] for name, value in state["state_dict"].items() if value.dim()}
    torch.save({**state, "state_dict": weights}, path)
    assert main(["device-eval", "--checkpoint", str(path)]) == 2
    assert "does not fit its own settings" in capsys.readouterr().err


def test_a_report_masks_as_the_run_did_and_knows_its_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    settings = cycle_settings(tmp_path, epochs=1, mask_history=True)
    run_recbole_fofa(config_dict=settings)
    (path,) = (p for p in (tmp_path / "out").rglob("*.pth") if "-last" not in p.name)
    command = ["device-eval", "--checkpoint", str(path), "--profiles", "low", "--ages", "none"]
    assert main([*command, "-q"]) == 0
    assert "items of the history are left out" in capsys.readouterr().out
    assert "trained on other rows" not in caplog.text
    assert main([*command, "-q", "--no-mask_history"]) == 0
    assert "items of the history are ranked too" in capsys.readouterr().out
    data = Path(settings["dataset"])
    lines = data.read_text().splitlines()  # the last interaction of each user is gone
    data.write_text("\n".join(line for line in lines if not line.endswith("\t11")) + "\n")
    assert main([*command, "-q"]) == 0
    assert "was trained on other rows than those of cycle" in caplog.text


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a checkpoint; then against another model's result, user by user."""
    folders = []
    for model in ("ForwardOFA", "SASRec"):
        settings = cycle_settings(tmp_path / model, epochs=1, topk=[5], valid_metric="NDCG@5")
        settings["dataset"] = cycle_settings(tmp_path)["dataset"]
        run_recbole_fofa(model, config_dict=known_to(model, settings))
        (path,) = (p for p in (tmp_path / model).rglob("*.pth") if "-last" not in p.name)
        folders.append(path.with_name(f"{path.stem}-devices"))
        words = ["--profiles", "low,mid", "--ages", "none", "--threads", "1", "-q"]
        assert main(["device-eval", "--checkpoint", str(path), *words]) == 0
    of_test = (folders[1] / "report.json").read_bytes()
    valid = ["device-eval", "--checkpoint", str(path), "--split", "valid", *words]
    assert main(valid) == 0 and (folders[1] / "report.json").read_bytes() == of_test
    assert path.with_name(f"{path.stem}-devices-valid").is_dir()
    out = capsys.readouterr().out
    assert "chosen per user" in out and "Structures and costs" in out and "report.html" in out
    names = [str(folder) for folder in folders]
    output = tmp_path / "compared.json"
    assert main(["compare", *names, f"{names[0]}#low: {CHOSEN}", "--output", str(output)]) == 0
    assert "ndcg@5, means over users, against" in capsys.readouterr().out
    written = json.loads(output.read_text())
    assert [one["n_users"] for one in written["comparisons"]] == [60, 60]
    assert main(["compare", names[0], f"{names[1]}#mid"]) == 2
    assert "has no row 'mid': it has SASRec" in capsys.readouterr().err
