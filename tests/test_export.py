"""``export``: what it writes, that a killed one ends the same, what it refuses."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from device_models import with_repeats
from interrupted import export_killed, interrupted_at_write
from small import cycle_settings

from recbole_fofa.cloud.export import file_of
from recbole_fofa.cloud.population import population
from recbole_fofa.command_line import main
from recbole_fofa.device.bundle import BaseBundle
from recbole_fofa.device.onnx_engine import OnnxEngine, StandaloneEngine
from recbole_fofa.device.payload import DevicePayload
from recbole_fofa.device.runtime import DeviceRuntime
from recbole_fofa.device_profile import load_profile
from recbole_fofa.errors import ConfigError, DeviceError
from recbole_fofa.quick_start import load_data_and_model, run_recbole_fofa
from recbole_fofa.whole_file import held


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a short run on the ring."""
    folder = tmp_path_factory.mktemp("trained")
    run_recbole_fofa(config_dict=cycle_settings(folder, epochs=1, n_layers=3))
    (path,) = (path for path in folder.glob("out/**/*.pth") if not path.name.endswith("-last.pth"))
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def export(checkpoint: Path, folder: Path, *words: str) -> int:
    return main(
        ["export", "--checkpoint", str(checkpoint), "--output_dir", str(folder), "-q", *words]
    )


def test_files_serve_every_user(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A device with these files scores as the model does with the user's whole history."""
    assert export(checkpoint, tmp_path / "x", "--profile", "high", "--format", "onnx") == 0
    assert "60 users in" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "x/manifest.jsonl").read_text().splitlines()]
    _, model, dataset, *_ = load_data_and_model(checkpoint)
    people = population(dataset)
    assert [line["user"] for line in lines] == people.users
    bundle = (tmp_path / "x/base.safetensors").read_bytes()
    device = DeviceRuntime(bundle)
    graphs = OnnxEngine.from_folder(device.bundle, tmp_path / "x")
    for row, line in enumerate(lines[:20]):
        data = (tmp_path / "x" / line["file"]).read_bytes()
        assert len(data) == line["payload_bytes"] <= load_profile("high").max_payload_bytes
        ids = people.histories.items[people.begins[row] : people.ends[row]]
        assert len(ids) == 12  # the validation and the test item too
        history = [people.item_tokens[item] for item in ids]
        with torch.no_grad():
            behaviour = torch.from_numpy(ids[-8:])[None]
            adaptation = model.adapt(behaviour, torch.tensor([8]))
            assert "".join(str(int(bit)) for bit in adaptation.structure[0]) == line["structure"]
            hidden = model.encode(behaviour, adaptation)[0, -1]
            scores = (model.item_embedding.weight[1:] @ hidden)[None]
            expected = with_repeats(scores, adaptation, [ids.tolist()])[0].numpy()
        for engine in (None, graphs):
            runtime = DeviceRuntime(bundle, engine)
            runtime.apply(data)
            found = runtime.score(history, people.item_tokens[1:])
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        uplink = device.uplink(history)
        assert len(uplink.to_bytes()) == line["uplink_bytes"]
        assert "".join(map(str, uplink.structure)) == line["structure"]


def test_profiles_bind(checkpoint: Path, tmp_path: Path) -> None:
    one_block = load_data_and_model(checkpoint)[1].network.block_macs[0]
    (tmp_path / "watch.yaml").write_text(f"max_macs: {one_block}\nprecision: int8\n")
    assert export(checkpoint, tmp_path / "x", "--profile", str(tmp_path / "watch.yaml")) == 0
    lines = [json.loads(line) for line in (tmp_path / "x/manifest.jsonl").read_text().splitlines()]
    assert {line["structure"].count("1") for line in lines} == {1}
    assert {line["macs"] for line in lines} == {one_block}


def test_a_report_says_what_the_files_give(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for profile, difference in (("high", 1e-5), ("low", 0.2)):
        folder = tmp_path / profile
        words = ["--profile", profile, "--format", "onnx", "--report", "3"]
        assert export(checkpoint, folder, *words) == 0
        report = json.loads((folder / "report.json").read_text())
        assert set(report["engines"]) == {"numpy", "onnxruntime"}
        for found in report["engines"].values():
            assert found["largest_relative_difference"] < difference
            assert found["same_top_10"] > 0.7
            assert 0 < found["p50_ms"] <= found["p95_ms"]
        assert report["users"] == 3
        assert '"same_top_10"' in capsys.readouterr().out
    assert report["engines"]["numpy"]["largest_relative_difference"] > 0  # int8 rounds


def test_standalone_graphs_are_listed_and_checked(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(checkpoint, tmp_path / "x", "--format", "standalone", "--users", "u1", "u2") == 0
    for text in (tmp_path / "x/manifest.jsonl").read_text().splitlines():
        line = json.loads(text)
        assert (tmp_path / "x" / line["onnx"]).stat().st_size == line["onnx_bytes"]
    words = ["--format", "standalone", "--users", "u1", "u2", "--report", "2"]
    assert export(checkpoint, tmp_path / "x", *words) == 0
    report = json.loads((tmp_path / "x/report.json").read_text())
    assert set(report["engines"]) == {"numpy", "standalone"}
    assert report["engines"]["standalone"]["largest_relative_difference"] < 1e-2  # fp16
    assert report["mean_onnx_bytes"] > report["mean_payload_bytes"]
    with pytest.raises(SystemExit):
        export(checkpoint, tmp_path / "x", "--report", "0")
    assert "'0' is no whole number of at least 1" in capsys.readouterr().err


def test_files_that_were_lost_are_written_again(checkpoint: Path, tmp_path: Path) -> None:
    """A manifest line counts only with its files, whole."""
    words = ["--format", "standalone", "--users", "u1", "u2", "u3", "u4"]
    assert export(checkpoint, tmp_path / "x", *words) == 0
    before = files_of(tmp_path / "x")
    (tmp_path / "x/users/u2.safetensors").unlink()
    graph = tmp_path / "x/users/u3.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    assert export(checkpoint, tmp_path / "x", *words) == 0
    assert files_of(tmp_path / "x") == before


def test_two_exports_do_not_write_to_one_folder(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--users", "u1", "u2", "u3"]
    assert export(checkpoint, tmp_path / "x", *words) == 0
    before = files_of(tmp_path / "x")
    with held(tmp_path / "x"):
        assert export(checkpoint, tmp_path / "x", *words) == 2
    assert "is being written by another process" in capsys.readouterr().err
    manifest = tmp_path / "x/manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(line + line for line in lines))  # as two of them once left it
    assert export(checkpoint, tmp_path / "x", *words) == 0
    assert files_of(tmp_path / "x") == before


def test_damaged_graphs_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    assert export(checkpoint, tmp_path / "x", "--format", "onnx", "--users", "u1") == 0
    bundle = BaseBundle.from_bytes((tmp_path / "x/base.safetensors").read_bytes())
    payload = (tmp_path / "x/users/u1.safetensors").read_bytes()
    n_kept = sum(DevicePayload.from_bytes(payload, bundle.info).structure)
    graph = tmp_path / "x" / f"network-{n_kept}.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1

    def score() -> Any:
        device = DeviceRuntime(bundle, OnnxEngine.from_folder(bundle, tmp_path / "x"))
        device.apply(payload)
        return device.score(["i1"], ["i1", "i2"])

    assert score().shape == (2,)
    graph.write_bytes(data)
    with pytest.raises(DeviceError, match="is damaged"):
        score()
    graph.unlink()
    with pytest.raises(DeviceError, match=f"no graph of {n_kept} blocks"):
        score()
    with pytest.raises(DeviceError, match="not an ONNX graph"):
        StandaloneEngine(b"junk")


def test_users_by_name_and_by_file(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text("u7\nu3\nu7\n")
    assert export(checkpoint, tmp_path / "a", "--users", "u7", "u3") == 0
    assert export(checkpoint, tmp_path / "b", "--users_file", str(tmp_path / "users.txt")) == 0
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    (tmp_path / "users.txt").write_bytes(b"\xef\xbb\xbfu7\r\n\r\nu3\r\n")
    assert export(checkpoint, tmp_path / "c", "--users_file", str(tmp_path / "users.txt")) == 0
    assert files_of(tmp_path / "a") == files_of(tmp_path / "c")
    assert set(files_of(tmp_path / "a")) == {
        "base.safetensors",
        "export.json",
        "manifest.jsonl",
        "users/u3.safetensors",
        "users/u7.safetensors",
    }


def test_split_files_have_no_histories_to_adapt_from() -> None:
    with pytest.raises(ConfigError, match="comes in split files"):
        population(SimpleNamespace(dataset_name="bench", histories=None))


def test_file_names_are_safe_and_differ() -> None:
    users = ["a", "A/b", "../up", ".", "..", "", "é", "x" * 500, "x" * 501, "a b", "con:1", "a%2Fb"]
    users += ["Anna", "anna", "con", "CON", "con1", "u1", "U1", "196", "a_b", "a-b"]
    names = [file_of(user) for user in users]
    # Some file systems know no upper case.
    assert len({name.lower() for name in names}) == len(names)
    assert (file_of("196"), file_of("u7")) == ("users/196.safetensors", "users/u7.safetensors")
    assert file_of("con") != "users/con.safetensors"
    for name in names:
        folder, _, base = name.partition("/")
        assert folder == "users"
        assert "/" not in base
        assert not base.startswith(".") or base == ".safetensors"
        assert len(base) < 200
        assert base.isascii()


def test_a_stopped_export_ends_with_the_same_files(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each point where something is written, in the middle of a line too."""
    monkeypatch.setattr("recbole_fofa.cloud.export.CHUNK", 16)
    assert export(checkpoint, tmp_path / "whole") == 0
    expected = files_of(tmp_path / "whole")
    for n_writes in (0, 1, 2, 3, 17, 30, 61):
        folder = tmp_path / f"stopped-{n_writes}"
        with interrupted_at_write(n_writes):
            assert export(checkpoint, folder) == 130
        if (folder / "manifest.jsonl").exists():
            with (folder / "manifest.jsonl").open("a") as file:
                file.write('{"user": "u9", "fi')
        assert export(checkpoint, folder) == 0
        assert files_of(folder) == expected


@pytest.mark.slow
def test_a_killed_export_ends_with_the_same_files(checkpoint: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments until it gets through."""
    assert export(checkpoint, tmp_path / "whole") == 0
    draw = random.Random(3)
    words = ["--checkpoint", checkpoint, "--output_dir", tmp_path / "killed", "-q"]
    assert export_killed(words, tmp_path / "killed", [draw.uniform(0, 0.15) for _ in range(12)])
    found = {k: v for k, v in files_of(tmp_path / "killed").items() if not k.endswith(".part")}
    assert found == files_of(tmp_path / "whole")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--users", "u1", "nobody"], "1 of 2 users are not in cycle, the first is 'nobody'"),
        (["--profile", "lwo"], "no device profile 'lwo'; did you mean 'low'"),
        (["--users_file", "/none"], "--users_file /none"),
        (["--users", "u1", "--users_file", "x"], "leave one out"),
    ],
)
def test_faults_are_told_before_anything_is_written(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    assert export(checkpoint, tmp_path / "x", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_parts_are_all_users_together(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """By their number, or by the place among the processes of a launcher."""
    assert export(checkpoint, tmp_path / "x", "--shard", "1/2") == 0
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert export(checkpoint, tmp_path / "x") == 0
    parts = [tmp_path / f"x-{number:05d}-of-00002" for number in (1, 2)]
    bundles = {(part / "base.safetensors").read_bytes() for part in parts}
    lines = [
        json.loads(line)
        for part in parts
        for line in (part / "manifest.jsonl").read_text().splitlines()
    ]
    _, _, dataset, *_ = load_data_and_model(checkpoint)
    assert [line["user"] for line in lines] == population(dataset).users
    device = DeviceRuntime(bundles.pop())
    assert not bundles
    for part, line in ((parts[0], lines[0]), (parts[1], lines[-1])):
        device.apply((part / line["file"]).read_bytes())
    assert export(checkpoint, tmp_path / "x", "--shard", "61/61") == 0
    assert export(checkpoint, tmp_path / "y", "--shard", "1/61") == 2
    assert "has none of 60 users" in capsys.readouterr().err


def test_another_export_is_not_written_over(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(checkpoint, tmp_path / "x", "--profile", "low") == 0
    before = files_of(tmp_path / "x")
    assert export(checkpoint, tmp_path / "x", "--profile", "mid", "--users", "u1") == 2
    error = capsys.readouterr().err
    assert "holds another export (profile, precision, allowed_structures, users" in error
    assert files_of(tmp_path / "x") == before
    assert export(checkpoint, tmp_path / "x", "--profile", "low") == 0
    assert files_of(tmp_path / "x") == before


def test_folders_that_cannot_be_written(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert export(checkpoint, tmp_path / "file") == 2
    assert "(--output_dir)" in capsys.readouterr().err
    (tmp_path / "x").mkdir()
    (tmp_path / "x/manifest.jsonl").write_text("{}\n")
    assert export(checkpoint, tmp_path / "x") == 2
    assert "no export.json" in capsys.readouterr().err


def test_other_models_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_recbole_fofa("DUET", config_dict=cycle_settings(tmp_path, epochs=1))
    path = next(p for p in tmp_path.glob("out/**/*.pth") if not p.name.endswith("-last.pth"))
    assert export(path, tmp_path / "x") == 2
    assert "DUET has no structures or parameters of single users" in capsys.readouterr().err


def test_a_missing_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(tmp_path / "none.pth", tmp_path / "x") == 2
    assert "no checkpoint at" in capsys.readouterr().err


ALL_HELP = """
import sys
from recbole_fofa.command_line import SUBCOMMANDS, main
assert main(["--version"]) == main(["--help"]) == 0
for command in SUBCOMMANDS:
    try:
        main([command, "--help"])
    except SystemExit as stopped:
        assert stopped.code == 0
assert "torch" not in sys.modules
"""


def test_help_does_not_wait_for_torch() -> None:
    subprocess.run([sys.executable, "-c", ALL_HELP], check=True, capture_output=True)


def test_help_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "export" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["export", "--help"])
    assert stopped.value.code == 0
    assert "--profile" in capsys.readouterr().out
