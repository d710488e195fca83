"""The benchmark of benchmarks: resumable, and a failing model is a line and not the end."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from small import cycle_settings, known_to, write_cycle

ROOT = Path(__file__).resolve().parent.parent
OURS = "ForwardOFA, input 20"
COMMAND = "python benchmarks/head_to_head.py benchmarks/plans/ml-100k.yaml"


@pytest.fixture
def benchmarks(tmp_path: Path) -> Path:
    """A copy, so that its results go nowhere else."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for name in ("head_to_head.py", "plan.py", "record.py", "tuning.py", "user_values.py"):
        shutil.copy(ROOT / "benchmarks" / name, folder / name)
    return folder


def check_significance(benchmarks: Path, lines: list[dict[str, Any]]) -> None:
    """The tests are of what the lines say, over all seeds of both models."""
    for name in ("significance.py", "head_to_head_tables.py", "table.py"):
        shutil.copy(ROOT / "benchmarks" / name, benchmarks / name)
    command = [sys.executable, str(benchmarks / "significance.py"), "--reference", "ours"]
    subprocess.run(command, check=True, capture_output=True)
    written = (benchmarks / "results" / "significance.jsonl").read_text().splitlines()
    tests = {test["protocol"]: test for test in map(json.loads, written)}
    assert tests.keys() == {"full", "masked", "uni99"}
    for protocol, test in tests.items():
        means = {
            model: np.mean(
                [line["protocols"][protocol]["ndcg@10"] for line in lines if line["model"] == model]
            )
            for model in ("ours", "SASRec")
        }
        assert test["name"] == "SASRec" and test["seeds"] == [1, 2]
        assert test["difference"] == pytest.approx(means["ours"] - means["SASRec"])
        assert 0 < test["p"] == test["p_holm"] <= 1


def of_tables(benchmarks: Path, expression: str, **written: list[dict[str, Any]]) -> str:
    """What the tables' module makes of lines, as Python shows it."""
    for name in ("head_to_head_tables.py", "table.py"):
        shutil.copy(ROOT / "benchmarks" / name, benchmarks / name)
    (benchmarks / "results").mkdir()
    for name, lines in written.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (benchmarks / "results" / f"{name}.jsonl").write_text(text)
    program = f"from head_to_head_tables import *; print(list({expression}))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=benchmarks, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_settings_that_ran_last_are_those_of_the_latest_line(benchmarks: Path) -> None:
    """Also where they had been run before others."""
    runs = [("old", 1), ("new", 1), ("old", 2)]
    lines = [
        {
            "dataset": "ring",
            "model": "ours",
            "settings_hash": mark,
            "seed": seed,
            "command": COMMAND,
        }
        for mark, seed in runs
    ]
    found = of_tables(benchmarks, "latest_models().values()", head_to_head=lines)
    assert found == str([[lines[0], lines[2]]])


def test_a_study_has_a_table_of_its_own(benchmarks: Path) -> None:
    reference = "ForwardOFA, input 20, adapts on 200"
    line = {"dataset": "ml-100k", "settings_hash": "a", "seed": 1, "command": COMMAND}
    lines = [{**line, "model": model} for model in (reference, "DUET")]
    part = {**line, "model": "no mapper", "command": COMMAND.replace("ml-100k", "ablations")}
    expression = "(list(latest_models(study).values()) for study in (None, 'ablations'))"
    found = of_tables(benchmarks, expression, head_to_head=[*lines, part])
    assert found == str([[[lines[0]], [lines[1]]], [[lines[0]], [part]]])


def test_a_test_of_other_settings_is_not_shown_beside_new_scores(benchmarks: Path) -> None:
    line = {"dataset": "ring", "seed": 1, "command": COMMAND}
    runs = [(OURS, "new"), ("theirs", "old"), ("others", "old")]
    lines = [{**line, "model": model, "settings_hash": mark} for model, mark in runs]
    test = {**line, "protocol": "full", "p": 0.01, "reference_model": OURS}
    tests = [
        {**test, "name": name, "settings_hashes": marks}
        for name, marks in (("theirs", ["old", "old"]), ("others", ["new", "old"]))
    ]
    found = of_tables(benchmarks, "latest_tests('ring')", head_to_head=lines, significance=tests)
    assert found == "[('full', 'others')]"


def test_holm_is_over_all_tests_that_are_shown(benchmarks: Path) -> None:
    """Whether they were run at once or not; of two tests of a model the later one counts."""
    line = {"dataset": "ring", "seed": 1, "settings_hash": "a", "command": COMMAND}
    lines = [{**line, "model": model} for model in (OURS, "theirs", "others")]
    test = {**line, "protocol": "full", "reference_model": OURS, "settings_hashes": ["a", "a"]}
    tests = [
        {**test, "name": name, "p": p, "p_holm": p}
        for name, p in (("theirs", 0.5), ("others", 0.01), ("theirs", 0.02))
    ]
    expression = "sorted(t['p_holm'] for t in latest_tests('ring').values())"
    found = of_tables(benchmarks, expression, head_to_head=lines, significance=tests)
    assert found == "[0.02, 0.02]"


def test_runs_are_done_anew_in_another_folder(benchmarks: Path, tmp_path: Path) -> None:
    """Lines of the first folder do not count there, and nothing is written to it."""
    (benchmarks / "results").mkdir()
    (benchmarks / "results" / "runs.jsonl").write_text('{"seed": 1}\n')
    program = "from record import *; append_line('runs', {'seed': 2}); print(read_lines('runs'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(benchmarks), "BENCH_RESULTS": "anew/results"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[{'seed': 2}]\n", done.stderr
    assert (tmp_path / "anew" / "results" / "runs.jsonl").is_file()


def test_a_checkout_measures_its_own_package(benchmarks: Path, tmp_path: Path) -> None:
    """Not the installed one: a line says at which commit of the checkout it was measured."""
    (tmp_path / "recbole_fofa").mkdir()
    (tmp_path / "recbole_fofa" / "__init__.py").write_text("")
    program = "import record, recbole_fofa; print(recbole_fofa.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=benchmarks, check=True, capture_output=True, text=True
    )
    assert done.stdout == f"{tmp_path / 'recbole_fofa' / '__init__.py'}\n"


def test_defaults_are_those_of_finished_runs() -> None:
    """A finished run is known by what its plan names; under other defaults it would pass for done.

    Where this fails, name in the plans what has changed, as it was, and put the new digest here.
    """
    folders = [ROOT / "properties" / kind for kind in ("model", "backbone")]
    files = sorted(file for folder in folders for file in folder.iterdir())
    defaults = {file.name: yaml.safe_load(file.read_text()) for file in files}
    written = json.dumps(defaults, sort_keys=True).encode()
    assert hashlib.sha256(written).hexdigest()[:12] == "20669da8e097"


def test_the_small_benchmark_is_part_of_a_plan() -> None:
    """And is done anew: the lines of this repository hold the same runs."""
    makefile = (ROOT / "Makefile").read_text()
    recipe = makefile.split("\nbench-small:\n\t")[1].replace("\\\n", "")
    words = shlex.split(recipe.splitlines()[0])
    plan = yaml.safe_load((ROOT / words[2]).read_text())
    models = words[words.index("--models") + 1 :]
    assert len(models) > 2 and set(models) <= plan["models"].keys()
    folder = re.search(r"bench-small: export BENCH_RESULTS = (benchmarks/\w+/)results\n", makefile)
    assert folder is not None and folder[1] in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("option", ["--datasets", "--models", "--seeds"])
def test_what_a_plan_has_not_is_refused(benchmarks: Path, option: str) -> None:
    """It would choose no run, and the command would end well."""
    plan = ROOT / "benchmarks" / "plans" / "ml-100k.yaml"
    command = [sys.executable, benchmarks / "head_to_head.py", plan, option, "9"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1 and not (benchmarks / "results").exists()
    assert f"error: {option}: no '9'; there is '" in done.stderr


@pytest.mark.slow
def test_plan(tmp_path: Path, benchmarks: Path) -> None:
    settings = cycle_settings(tmp_path, epochs=1)
    settings.pop("dataset")
    path = str(write_cycle(tmp_path / "wide", n_items=150))
    for name in ("output_dir", "quiet"):
        settings.pop(name)
    broken = {"model": "ForwardOFA", "n_heads": 3, "search": False}
    plan = {
        "datasets": {"ring": path},
        "seeds": [1, 2],
        "common": known_to("SASRec", settings),
        "search": {"trials": 2, "space": {"session_length": [3, 4]}},
        "models": {
            "SASRec": {"model": "SASRec", "search": False},
            "ours": {"model": "ForwardOFA"},
            "no": broken,
        },
    }
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(plan, sort_keys=False))

    def run(script: str = "head_to_head.py", *words: str) -> int:
        command = [sys.executable, str(benchmarks / script), str(file), *words]
        return subprocess.run(command, check=False, capture_output=True).returncode

    assert run() == 1 and not (benchmarks / "results").exists()  # nothing is tuned yet
    assert run("tuning.py") == run("tuning.py") == 0
    (tuned,) = map(json.loads, (benchmarks / "results" / "tuning.jsonl").read_text().splitlines())
    assert tuned["model"] == "ours" and tuned["trials"] == 2
    assert run() == 1  # one model fails
    results = benchmarks / "results" / "head_to_head.jsonl"
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(line["model"], line["seed"]) for line in lines] == [
        (model, seed) for model in plan["models"] for seed in (1, 2)
    ]
    for line in lines[:4]:
        assert line["ndcg@10"] == line["protocols"]["full"]["ndcg@10"] > 0
        assert line["peak_memory_bytes"] > 1e8 and line["epochs_run"] == 1
        assert line["plan"] == "plan"
        with np.load(benchmarks.parent / line["per_user"]) as values:
            for protocol, metrics in line["protocols"].items():
                assert values[protocol].mean() == pytest.approx(metrics["ndcg@10"])
    assert "mean_macs" not in lines[0] and lines[2]["mean_macs"] > 0
    assert lines[2]["settings"]["session_length"] == tuned["chosen"]["session_length"]
    assert all("divisible by n_heads (3)" in line["failed"] for line in lines[4:])
    assert str(tmp_path) not in results.read_text()
    check_significance(benchmarks, lines)
    # Once more: nothing is run again.
    before = results.read_text()
    assert run() == 1
    assert results.read_text() == before
    # A line that a killed run did not write is made good; other lines stay.
    results.write_text("".join(before.splitlines(keepends=True)[1:]))
    assert run("head_to_head.py", str(file), "--models", "ours") == 0  # a plan may come twice
    assert len(results.read_text().splitlines()) == 5
    assert run("head_to_head.py", "--workers", "2") == 1
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert (lines[-1]["model"], lines[-1]["seed"]) == ("SASRec", 1)
    assert len(lines) == 6 and lines[-1]["workers"] == 2


@pytest.mark.slow
def test_a_killed_run_goes_on_after_its_last_epoch(tmp_path: Path, benchmarks: Path) -> None:
    """Killed as a whole, or the run alone, as for want of memory, or the one who waits for it."""
    settings = cycle_settings(tmp_path, epochs=40, stopping_step=40)
    for name in ("dataset", "output_dir", "quiet"):
        settings.pop(name)
    plan = {
        "datasets": {"ring": str(write_cycle(tmp_path / "wide", n_items=150))},
        "seeds": [1],
        "common": settings,
        "models": {"ours": {"model": "ForwardOFA"}},
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    command = [sys.executable, str(benchmarks / "head_to_head.py"), str(tmp_path / "plan.yaml")]
    results = benchmarks / "results" / "head_to_head.jsonl"

    def begun(n_epochs: int) -> subprocess.Popen[str]:
        """The benchmark, as soon as its run has a checkpoint and so many more epochs."""
        text = {"stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, start_new_session=True, **text)
        while n_trained(benchmarks) < n_epochs or not list(unfinished(benchmarks, "*-last.pth")):
            assert process.poll() is None
            time.sleep(0.01)
        return process

    whole = begun(1)
    os.killpg(whole.pid, signal.SIGKILL)
    whole.wait()
    of_whole = n_trained(benchmarks)

    run_alone = begun(of_whole + 1)
    tasks = Path(f"/proc/{run_alone.pid}/task").glob("*/children")
    (child,) = " ".join(task.read_text() for task in tasks).split()
    os.kill(int(child), signal.SIGKILL)
    said, _ = run_alone.communicate()
    assert run_alone.returncode == 1 and "killed by signal 9; called again, it goes on" in said
    of_run = n_trained(benchmarks)

    who_waits = begun(of_run + 1)
    os.kill(who_waits.pid, signal.SIGKILL)
    who_waits.wait()
    os.killpg(who_waits.pid, signal.SIGSTOP)  # the run, lest it end while another asks for it
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert again.returncode == 1 and "is being written by another process" in again.stdout
    os.killpg(who_waits.pid, signal.SIGKILL)

    assert not results.exists() and of_whole < of_run < n_trained(benchmarks) < 40
    while subprocess.run(command, check=False, capture_output=True).returncode:
        time.sleep(0.1)  # until the killed one has let go of the folder
    (line,) = map(json.loads, results.read_text().splitlines())
    assert line["resumed"] is True and line["epochs_run"] == 40
    assert line["train_seconds"] > 0 and not list(benchmarks.glob("unfinished/*"))


def unfinished(benchmarks: Path, pattern: str) -> Iterator[Path]:
    """Files of the checkpoints of a run that is not finished."""
    return benchmarks.glob(f"unfinished/*/saved/{pattern}")


def n_trained(benchmarks: Path) -> int:
    """Epochs on record of a run that is not finished."""
    return sum(file.read_text().count('"train"') for file in unfinished(benchmarks, "*.jsonl"))
