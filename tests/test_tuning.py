"""Search spaces, and searches that are interrupted and go on."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import cycle_settings

from recbole_fofa.command_line import main
from recbole_fofa.errors import ConfigError, OutputError
from recbole_fofa.quick_start import checked_config, run_recbole_fofa
from recbole_fofa.trainer.trainer import FofaTrainer
from recbole_fofa.tuning import search
from recbole_fofa.tuning.search import tune
from recbole_fofa.tuning.space import Choice, Range, read_space

SPACE = {"learning_rate": Range(0.001, 0.03, log=True), "session_length": Choice((3, 5))}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def config_of(tmp_path: Path, **changes: Any) -> Any:
    return checked_config(config_dict=cycle_settings(tmp_path, epochs=6, **changes))


def test_a_space_in_yaml(tmp_path: Path) -> None:
    text = """
learning_rate: {low: 0.0005, high: 5e-3, log: true}
n_layers: {low: 1, high: 3}
hidden_size: {low: 16, high: 64, step: 16}
dilations: [[1, 4], [1, 2, 4]]
adapt_chunk: [~, 64]
"""
    space = read_space(write(tmp_path, text))
    assert space == {
        "learning_rate": Range(0.0005, 0.005, log=True),
        "n_layers": Range(1, 3),
        "hidden_size": Range(16, 64, step=16),
        "dilations": Choice(([1, 4], [1, 2, 4])),
        "adapt_chunk": Choice((None, 64)),
    }
    assert space["n_layers"].whole and not space["learning_rate"].whole


LINES = """learning_rate loguniform -8,0
# a comment
hidden_dropout_prob uniform 0.1, 0.5
n_layers quniform 1,3,1
loss_type choice ['CE', 'BPR']
dilations choice [[1,4],[1]]
"""
GROUPED = """
loguniform: {learning_rate: [-8, 0]}
uniform: {hidden_dropout_prob: [0.1, 0.5]}
quniform: {n_layers: [1, 3, 1]}
choice: {loss_type: [CE, BPR], dilations: [[1, 4], [1]]}
"""


@pytest.mark.parametrize("text", [LINES, GROUPED])
def test_both_of_recboles_formats(tmp_path: Path, text: str) -> None:
    assert read_space(write(tmp_path, text)) == {
        "learning_rate": Range(math.exp(-8), 1.0, log=True),
        "hidden_dropout_prob": Range(0.1, 0.5),
        "n_layers": Range(1, 3, step=1),
        "loss_type": Choice(("CE", "BPR")),
        "dilations": Choice(([1, 4], [1])),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n_layers: 3", "n_layers needs a list of values, or low and high"),
        ("n_layers: {low: 3, high: 1}", "n_layers needs low < high"),
        ("n_layers: {low: 1, high: 3, q: 1}", "n_layers needs a list"),
        ("learning_rate: {low: 0, high: 1, log: true}", "numbers above 0"),
        ("n_layers: [1, 1]", "n_layers has the same value twice"),
        ("n_layers: {low: 1, high: 3, step: 9}", "n_layers has step 9"),
        ("n_layers: {low: 1, high: .inf}", "both numbers"),
        ("n_layers uniform 1", "n_layers uniform needs 2 numbers"),
        ("n_layers choice __import__('os').getcwd()", "n_layers needs a list of values"),
        ("n_layers choice [1]\nn_layers choice [2]", "n_layers is there twice"),
        ("uniform: {a: [0, 1]}\nchoice: {a: [1]}", "a is there twice"),
        ("a: [1]\na: [2]", "is set twice"),
        ("", "must give each setting its values"),
        ("{}", "names no setting"),
        ("[1, 2]", "must give each setting its values"),
        (": [", "is no YAML"),
        ("loguniform: {a: [0, 1000]}", "a has a number that is too large"),
        (f"a: {{low: 1, high: 1{400 * '0'}}}", "a has a number that is too large"),
        ("a choice [{1, 2}]", "a has values that no setting can have"),
        ("a: [!!timestamp 2020-01-01]", "a has values that no setting can have"),
        ("1: [1, 2]", "1 is no name of a setting"),
        ("~: [1, 2]", "None is no name of a setting"),
    ],
)
def test_faults_of_a_space_name_the_setting(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match="--space") as caught:
        read_space(write(tmp_path, text))
    assert said in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_a_space_or_a_clear_error(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), text.encode(errors="replace").decode())
        try:
            read_space(path)
        except ConfigError as error:
            assert "--space" in str(error)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"learning_rat": Choice((0.1,))}, "learning_rate"),
        ({"n_heads": Choice((2, 3))}, "--space, n_heads"),
        ({"hidden_dropout_prob": Range(0.1, 1.5)}, "--space, hidden_dropout_prob"),
        ({"seed": Range(1, 5)}, "seed is no setting to search for"),
        ({"preset": Choice(("short_histories",))}, "preset is no setting to search for"),
        ({"calibrate_repeat_bias": Choice((True, False))}, "is no setting to search for"),
    ],
)
def test_settings_that_do_not_exist_or_fit_are_told_first(
    tmp_path: Path, space: Any, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        tune(config_of(tmp_path), space, 2, tmp_path / "search")
    assert said in str(caught.value) and not (tmp_path / "search").exists()


def test_a_search_ends_with_settings_that_a_run_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {k: v for k, v in cycle_settings(tmp_path, epochs=3).items() if k != "output_dir"}
    fixed = tmp_path / "fixed.yaml"
    fixed.write_text(json.dumps(settings))
    space = write(tmp_path, "learning_rate: {low: 0.0001, high: 0.05, log: true}")
    folder = tmp_path / "search"
    words = ["tune", "--space", str(space), "--trials", "4", "--output_dir", str(folder)]
    assert main([*words, "--config_files", str(fixed)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "learning_rate: 0.0001 to 0.05, log"
    assert [line.split(":")[0] for line in lines[1:5]] == [f"trial {n}" for n in range(4)]
    assert lines[-1].endswith(f"--config_files {folder / 'best.yaml'}")
    trials = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()[1:]]
    # The first has the setting as it is given.
    assert trials[0]["chosen"] == {"learning_rate": 0.002}
    assert len({trial["chosen"]["learning_rate"] for trial in trials}) == 4
    best = max((t for t in trials if t["state"] == "complete"), key=lambda trial: trial["score"])
    result = run_recbole_fofa(
        config_file_list=[str(folder / "best.yaml")],
        config_dict={"output_dir": str(tmp_path / "again")},
    )
    assert result["best_valid_score"] == pytest.approx(best["score"], abs=2e-6)
    assert not list(folder.glob("trial-*/saved/*.pth"))  # nothing heavy is left behind


class Killed(Exception):
    """Stands for the end of the process."""


def test_an_interrupted_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tmp_path)
    folder = tmp_path / "search"
    run, calls = search._run, []

    def killed_in_the_third(number: int, *rest: Any) -> Any:
        calls.append(number)
        if len(calls) == 3:
            raise Killed
        return run(number, *rest)

    monkeypatch.setattr(search, "_run", killed_in_the_third)
    with pytest.raises(Killed):
        tune(config, SPACE, 5, folder)
    tune(config, SPACE, 5, folder)
    assert calls == [0, 1, 2, 2, 3, 4]
    lines = (folder / "trials.jsonl").read_text().splitlines()
    chosen = [json.loads(line)["chosen"]["learning_rate"] for line in lines[1:]]
    assert len(set(chosen)) == 5  # no proposal of the first part came again
    tune(config, SPACE, 5, folder)
    assert len(calls) == 6  # all are there
    table = (folder / "trials.csv").read_text().splitlines()
    assert table[0] == "trial,state,score,epochs,seconds,learning_rate,session_length"
    assert len(table) == 6


def test_a_folder_belongs_to_one_search(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    tune(config_of(tmp_path), SPACE, 1, folder)
    with pytest.raises(ConfigError, match="differs in space"):
        tune(config_of(tmp_path), {"session_length": Choice((3, 5))}, 1, folder)
    with pytest.raises(ConfigError, match="differs in settings"):
        tune(config_of(tmp_path, n_layers=1), SPACE, 1, folder)
    for damage in ("{}\nx", "[1]\n", "7\n", ""):
        (folder / "trials.jsonl").write_text(damage)
        with pytest.raises(ConfigError, match="damaged"):
            tune(config_of(tmp_path), SPACE, 1, folder)


def test_a_choice_that_cannot_be_trained_is_an_outcome(tmp_path: Path) -> None:
    """Sizes that fit one by one, but not together; and a rate that diverges."""
    space = {"hidden_size": Choice((16, 15)), "n_heads": Choice((2, 5))}
    seen: list[Any] = []
    best, _ = tune(config_of(tmp_path), space, 8, tmp_path / "a", on_trial=seen.append)
    failed = [trial for trial in seen if trial.state == "failed"]
    assert failed and all("hidden_size" in trial.reason for trial in failed)
    assert best.state == "complete" and best.score is not None
    with pytest.raises(ConfigError, match="none of 2 trials could be trained"):
        tune(
            config_of(tmp_path, learning_rate_warmup_epochs=0.0),
            {"learning_rate": Range(1e35, 1e36)},
            2,
            tmp_path / "b",
        )


@pytest.mark.parametrize(
    ("values", "given", "expected"),
    [
        (Choice((0.0, 0.5)), 0, [0.0]),
        (Choice((1, 2)), True, []),
        (Choice((None, 64)), None, [None]),
        (Choice(([1, 4], [1])), [1], [[1]]),
        (Range(16, 48, step=16), 24, []),
        (Range(16, 48, step=16), 32, [32]),
        (Range(0, 4), 0.5, []),
        (Range(0.0, 1.0, step=0.1), 0.3, [0.3]),
        (Range(0.0, 1.0), 0.35, [0.35]),
        (Range(0.0, 1.0), None, []),
    ],
)
def test_a_given_value_is_tried_first_as_the_space_has_it(
    values: Choice | Range, given: Any, expected: list[Any]
) -> None:
    found = values.like(given)
    assert found == expected and list(map(type, found)) == list(map(type, expected))


def test_given_values_beside_the_space_neither_crash_nor_stay(tmp_path: Path) -> None:
    """Optuna refuses the one, and takes the other until the search goes on."""
    space = {"hidden_dropout_prob": Choice((0.0, 0.5)), "inner_size": Range(16, 48, step=16)}
    config = config_of(tmp_path, hidden_dropout_prob=0, inner_size=24)
    seen: list[Any] = []
    for n_trials in (1, 2):
        tune(config, space, n_trials, tmp_path / "search", on_trial=seen.append)
    assert seen[0].chosen["hidden_dropout_prob"] == 0.0
    assert all(trial.chosen["inner_size"] in (16, 32, 48) for trial in seen)


def test_a_search_needs_validations(tmp_path: Path) -> None:
    for changes in ({"eval_step": 0}, {"eval_step": 7}):
        with pytest.raises(ConfigError, match="no trial would have a validation score"):
            tune(config_of(tmp_path, **changes), SPACE, 1, tmp_path / "a")
    space = {"eval_step": Choice((0, 1))}
    seen: list[Any] = []
    tune(config_of(tmp_path, eval_step=0), space, 4, tmp_path / "b", on_trial=seen.append)
    assert {(trial.chosen["eval_step"], trial.state) for trial in seen} == {
        (0, "failed"),
        (1, "complete"),
    }


def test_hopeless_trials_are_stopped(tmp_path: Path) -> None:
    config = config_of(tmp_path, hidden_dropout_prob=0.0)
    space = {"learning_rate": Choice((0.01, 0.0000001))}
    seen: list[Any] = []
    tune(config, space, 10, tmp_path / "search", on_trial=seen.append)
    pruned = [trial for trial in seen if trial.state == "pruned"]
    assert pruned and all(trial.chosen["learning_rate"] < 0.001 for trial in pruned)
    assert all(search.FIRST_EPOCHS <= len(trial.scores) < 6 for trial in pruned)


def test_the_folder_must_be_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--output_dir"):
        tune(config_of(tmp_path), SPACE, 1, tmp_path / "file" / "search")


def test_two_searches_do_not_share_a_folder(tmp_path: Path) -> None:
    config, folder = config_of(tmp_path), tmp_path / "search"

    def second(_: Any) -> None:
        with pytest.raises(OutputError, match="another process"):
            tune(config, SPACE, 1, folder)

    tune(config, SPACE, 1, folder, on_trial=second)
    tune(config, SPACE, 1, folder)  # free again


def test_what_torch_refuses_is_an_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that dies of one trial would propose it again, and die again."""
    fit = FofaTrainer.fit

    def refused(trainer: FofaTrainer, *data: Any, **options: Any) -> Any:
        if trainer.config["n_layers"] == 2:
            raise RuntimeError("no such kernel")
        return fit(trainer, *data, **options)

    monkeypatch.setattr(FofaTrainer, "fit", refused)
    seen: list[Any] = []
    space = {"n_layers": Choice((1, 2))}
    best, _ = tune(config_of(tmp_path), space, 3, tmp_path / "a", on_trial=seen.append)
    assert best.chosen == {"n_layers": 1}
    assert {trial.reason for trial in seen if trial.state == "failed"} == {"no such kernel"}
