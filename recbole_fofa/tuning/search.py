"""The search: optuna proposes settings, a run without test data scores them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial

from recbole_fofa.config.config import FofaConfig
from recbole_fofa.errors import ConfigError, FofaError, OutputError
from recbole_fofa.quick_start import checked_config, prepare_training
from recbole_fofa.tuning.space import Choice, Range, Space
from recbole_fofa.tuning.trials import Trial, TrialBook, claimed

FIRST_EPOCHS = 4
"""Validations before a trial can be stopped."""
_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
DECIMALS = 6
"""Of trials' scores, and of the run that takes their settings; RecBole's four make them alike."""
_NOT_SEARCHED = (
    *("model", "dataset", "data_path", "seed", "valid_metric", "output_dir"),
    *("resume_from", "preset"),  # a trial is given every setting, which a preset does not outdo
    "calibrate_repeat_bias",  # is done after training, to a checkpoint, which trials do not write
)


def tune(
    config: FofaConfig,
    space: Space,
    n_trials: int,
    folder: Path,
    *,
    seed: int = 0,
    prune: bool = True,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> tuple[Trial, Path]:
    """Search until a folder holds ``n_trials`` trials; those that are there already count.

    The first trial has the settings as they are given, as far as they lie in the space; optuna's
    tree-structured Parzen estimator proposes the others. A trial that after some epochs is below
    the median of the earlier ones is stopped. Scores are the best of ``valid_metric``, before
    ``calibrate_repeat_bias``; test data are never looked at.

    Args:
        config: Settings of all trials.
        space: What may be chosen.
        n_trials: Trials in all.
        folder: Where they are kept; a search that was interrupted goes on from there.
        seed: Of the proposals. Trials themselves have the setting ``seed``.
        prune: Whether hopeless trials are stopped.
        on_trial: Called with each new trial.

    Returns:
        The best trial, and the YAML file of its settings.

    Raises:
        ConfigError: Space or folder are at fault (told before the first trial), or no trial could
            be trained.
    """
    check_space(config, space)
    given = {k: v for k, v in config.external_config_dict.items() if k not in space}
    given = {"model": config.model, "dataset": config.dataset, **given}
    given.pop("output_dir", None)
    identity = {
        "space": {name: values.words() for name, values in space.items()},
        "settings": given,
        "seed": seed,
        "prune": prune,
    }
    with claimed(folder):
        book = TrialBook(folder, identity)
        best = _search(book, config, space, n_trials, seed=seed, prune=prune, on_trial=on_trial)
        return best, book.write_best(best, {"metric_decimal_place": DECIMALS, **given})


def _search(
    book: TrialBook,
    config: FofaConfig,
    space: Space,
    n_trials: int,
    *,
    seed: int,
    prune: bool,
    on_trial: Callable[[Trial], None],
) -> Trial:
    """Add trials to a book until it has enough; the best one."""
    bigger = bool(config["valid_metric_bigger"])
    study = _study(book, space, bigger, n_trials, seed, prune)
    if not book.trials:
        study.enqueue_trial(_as_given(config, space))
    while len(book.trials) < n_trials:
        proposal = study.ask({name: _distribution(values) for name, values in space.items()})
        trial = _run(len(book.trials), config, space, proposal, book.folder)
        score = trial.score if trial.state == "complete" else None
        study.tell(proposal, score, state=_STATES[trial.state])
        book.add(trial)
        on_trial(trial)
    best = book.best(bigger)
    if best is None:
        reasons = sorted({trial.reason for trial in book.trials if trial.reason})
        raise ConfigError([f"none of {len(book.trials)} trials could be trained", *reasons])
    return best


def check_space(config: FofaConfig, space: Space) -> None:
    """Each setting with each of its values (or its lowest and highest), the others as given.

    What also depends on another setting of the space can only be known in a trial.

    Raises:
        ConfigError: Names each setting that does not exist or cannot have such a value.
    """
    faults = [f"{name} is no setting to search for" for name in _NOT_SEARCHED if name in space]
    if config.launch is not None:
        faults.append("nproc and world_size: each trial trains in one process; leave them out")
    if not {"eval_step", "epochs"} & set(space):
        faults += _validation_faults(config)
    for name in [name for name in space if name not in _NOT_SEARCHED]:
        others = [other for other in space if other != name]
        for value in space[name].edges():
            tried = FofaConfig(config_dict={**config.settings(), name: value}, raise_faults=False)
            faults += [
                f"--space, {name}: {fault}"
                for fault in tried.faults
                if not any(other in fault for other in others)
            ]
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))


def _validation_faults(config: FofaConfig) -> list[str]:
    step, epochs = config["eval_step"], config["epochs"]
    if 0 < step <= epochs:
        return []
    return [
        f"eval_step is {step} and epochs {epochs}, so that no trial would have a validation score: "
        "set eval_step to 1"
    ]


def _study(
    book: TrialBook, space: Space, bigger: bool, n_trials: int, seed: int, prune: bool
) -> optuna.Study:
    """A study that knows the trials of the book."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    n_random = max(3, n_trials // 3)
    # With the number of known trials, or a resumed search would draw its first proposals again.
    sampler = optuna.samplers.TPESampler(n_startup_trials=n_random, seed=seed + len(book.trials))
    median = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=FIRST_EPOCHS - 1)
    study = optuna.create_study(
        direction="maximize" if bigger else "minimize",
        sampler=sampler,
        pruner=median if prune else optuna.pruners.NopPruner(),
    )
    for trial in book.trials:
        study.add_trial(
            create_trial(
                state=_STATES[trial.state],
                value=trial.score if trial.state == "complete" else None,
                params={name: _name(space[name], value) for name, value in trial.chosen.items()},
                distributions={name: _distribution(values) for name, values in space.items()},
                intermediate_values=trial.scores,
            )
        )
    return study


def _run(
    number: int, config: FofaConfig, space: Space, proposal: optuna.Trial, folder: Path
) -> Trial:
    """Train with what is proposed; that it is hopeless or impossible is an outcome too."""
    chosen = {name: _value(values, proposal.params[name]) for name, values in space.items()}
    own = {**chosen, "output_dir": str(folder / f"trial-{number}"), "quiet": True}
    if "metric_decimal_place" not in config.external_config_dict:
        own["metric_decimal_place"] = DECIMALS
    scores: dict[int, float] = {}

    def after_validation(epoch: int, score: float) -> None:
        scores[epoch] = float(score)
        proposal.report(scores[epoch], epoch)
        if proposal.should_prune():
            raise optuna.TrialPruned

    state: Literal["complete", "pruned", "failed"] = "complete"
    reason = ""
    started = time.perf_counter()
    try:
        trainer, (train, valid, _) = prepare_training(
            checked_config(config_dict={**config.settings(), **own})
        )
        trainer.fit(train, valid, saved=False, callback_fn=after_validation)
    except optuna.TrialPruned:
        state = "pruned"
    except (OutputError, NotImplementedError, RecursionError):
        raise  # a full disk and a fault of code say nothing about the settings
    except (FofaError, RuntimeError) as error:  # torch's among them, for want of memory too
        state, reason = "failed", " ".join(str(error).split())
    if state == "complete" and not scores:
        state, reason = "failed", "no epoch was validated (eval_step, epochs)"
    seconds = round(time.perf_counter() - started, 1)
    choose = max if config["valid_metric_bigger"] else min
    score = choose(scores.values()) if scores and state != "failed" else None
    return Trial(number, chosen, state, score, scores, seconds, reason)


def _distribution(values: Choice | Range) -> BaseDistribution:
    if isinstance(values, Choice):
        return CategoricalDistribution(values.names)
    if values.whole:
        step = int(values.step or 1)
        return IntDistribution(int(values.low), int(values.high), log=values.log, step=step)
    return FloatDistribution(values.low, values.high, log=values.log, step=values.step)


def _value(values: Choice | Range, proposed: Any) -> Any:
    return json.loads(proposed) if isinstance(values, Choice) else proposed


def _name(values: Choice | Range, value: Any) -> Any:
    return json.dumps(value) if isinstance(values, Choice) else value


def _as_given(config: FofaConfig, space: Space) -> dict[str, Any]:
    """The given values of the settings, where the space has them."""
    known: dict[str, Any] = {}
    for name, values in space.items():
        for value in values.like(config[name]):
            known[name] = _name(values, value)
    return known
