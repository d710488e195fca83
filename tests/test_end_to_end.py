"""The command that users type, on the ml-100k of RecBole's wheel."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recbole_fofa.command_line import main
from recbole_fofa.model.backbone import BACKBONES

ROOT = Path(__file__).resolve().parent.parent
SMALL = """--epochs=2 --hidden_size=32 --inner_size=64 --MAX_ITEM_LIST_LENGTH=20 --session_length=20
--adapt_seq_length=20 --train_batch_size=128 --learning_rate=0.01 --torch_threads=1
--learning_rate_warmup_epochs=0""".split()


def run_command(folder: Path, *words: str) -> tuple[str, dict[str, Any]]:
    """Run from another folder, so that nothing depends on the current one."""
    done = subprocess.run(
        [sys.executable, ROOT / "run_recbole_fofa.py", "--output_dir=out", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    log = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr)
    return log, json.loads((folder / "out" / "result.json").read_text())


def test_default_command_on_ml_100k(tmp_path: Path) -> None:
    log, result = run_command(tmp_path, "--dataset", "ml-100k", *SMALL)
    # A ranking by popularity alone gives about 0.02 here.
    assert result["test_result"]["ndcg@10"] > 0.025
    structures = result["structures"]
    assert structures["n_users"] == 943
    assert len(structures["keep_rate"]) == 2
    assert sum(structures["counts"].values()) == 943
    assert len(structures["counts"]) == structures["n_structures"]
    for line in (
        r"epoch 1 training \[time: .*train loss: .*next item: .*structure: .*keep rate: 0\.\d+, ",
        r"epoch 1 monitored \[structures: \d.*, entropy: .*, kept 1: ",
        r"epoch 1 evaluating \[time: .*valid_score: ",
        r"best valid : ",
        r"test result: .*'ndcg@10': ",
        r"keep rate per block: block 0: \d\.\d+, block 1: \d\.\d+",
        r"distinct structures: \d+ among 943 users",
        r"trainer: ForwardOFATrainer, device: cpu",
        r"train: 97171 rows of 943 users",
        r"test: 943 rows of 943 users",
    ):
        assert re.search(line, log), line
    assert "Warning" not in log and "Error" not in log
    made = {path.relative_to(tmp_path).parts[:2] for path in tmp_path.rglob("*") if path.is_file()}
    assert made == {("out", name) for name in ("result.json", "saved", "log", "log_tensorboard")}


@pytest.mark.parametrize("policy", [None, "ACTIVE"])
def test_waiting_threads_sleep_unless_told_otherwise(policy: str | None) -> None:
    others = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    given = {} if policy is None else {"OMP_WAIT_POLICY": policy}
    done = subprocess.run(
        [sys.executable, ROOT / "run_recbole_fofa.py", "--topk=0"],  # torch is imported, no more
        env={**others, **given, "OMP_DISPLAY_ENV": "TRUE"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"OMP_WAIT_POLICY = '{policy or 'PASSIVE'}'" in done.stderr


def test_a_package_that_a_model_misses_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'faiss'", name="faiss")

    monkeypatch.setattr("recbole_fofa.quick_start.run_recbole_fofa", fit)
    assert main(["--model", "NCL"]) == 2
    assert capsys.readouterr().err == "error: the package faiss is needed here: install it\n"


def test_quiet_shows_the_result_only(tmp_path: Path) -> None:
    few = [word for word in SMALL if not word.startswith("--epochs")]
    log, result = run_command(tmp_path, "--dataset", "ml-100k", "--quiet", "--epochs=0", *few)
    assert re.fullmatch(r".* INFO  test result: .*\n", log)
    assert str(result["test_result"]["ndcg@10"]) in log


@pytest.mark.slow
@pytest.mark.parametrize("model", ["ForwardOFA", "DUET"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_trains_on_ml_100k(tmp_path: Path, backbone: str, model: str) -> None:
    settings = ROOT / "properties" / "backbone" / f"{backbone}.yaml"
    log, result = run_command(tmp_path, "--model", model, "--config_files", str(settings), *SMALL)
    # Better than a ranking by popularity (about 0.02), and a loss that has fallen.
    assert result["test_result"]["ndcg@10"] > 0.025
    first, second = (float(x) for x in re.findall(r"train loss: ([\d.]+)", log))
    assert first > second


@pytest.mark.slow
def test_memory_grows_with_the_interactions_only(tmp_path: Path) -> None:
    """A million interactions, inputs of 50 items: copied prefixes alone would be 400 MB."""
    folder = tmp_path / "million"
    folder.mkdir()
    with (folder / "million.inter").open("w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user in range(10_000):
            file.writelines(
                f"u{user}\ti{(user * 31 + step * 7) % 1000}\t{step}\n" for step in range(100)
            )
    script = (
        "import sys; from peak_memory import peak_bytes\n"
        "from recbole_fofa.quick_start import checked_config, prepare_data\n"
        "config = checked_config(config_dict={'dataset': sys.argv[1], 'output_dir': sys.argv[2],"
        " 'quiet': True, 'train_regime': sys.argv[3]})\n"
        "train, *_ = prepare_data(config)\n"
        "next(iter(train))\n"
        "print(peak_bytes())"
    )
    for regime in ("session", "prefix"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(folder), str(tmp_path / "out"), regime],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        )
        assert int(done.stdout.split()[-1]) < 2 * 1024**3
