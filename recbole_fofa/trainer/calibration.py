"""After training: one number on all repeat biases, found by validation scores (ours).

The repeat bias learns what makes the data likely, and on targets that the item table has learned by
heart. What ranks best is another question: new items share their probability among so many that the
first of them is a surer guess in training than it will be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole.utils import calculate_valid_score

from recbole_fofa import processes
from recbole_fofa.trainer.checkpoint import (
    load_checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from recbole_fofa.trainer.disk import explains_the_disk
from recbole_fofa.trainer.hooks import Hook
from recbole_fofa.trainer.resume import CALIBRATED

if TYPE_CHECKING:
    from recbole_fofa.trainer.trainer import FofaTrainer

LARGEST, SMALLEST = 16.0, 0.5
"""Steps of the search, in units of scores."""


class RepeatBiasCalibration(Hook):
    """Shifts the repeat bias of the best epoch's checkpoint where that raises its validation score.

    The raised score is the one that is told from then on. A checkpoint is calibrated once: taken up
    again, a finished run ends as it did. Without checkpoints nothing is calibrated.
    """

    def on_train_end(self, trainer: FofaTrainer, valid_data: Any, saved: bool) -> None:
        """Calibrate the file; the model in memory stays what it is."""
        if not saved or not valid_data or trainer.best_valid_result is None:
            return
        best = Path(trainer.saved_model_file)
        processes.barrier()  # the main process may still be writing it
        state = load_checkpoint(best, trainer.device)
        if CALIBRATED not in state:
            state |= calibrated(trainer, valid_data, state)
            if processes.is_main():
                with explains_the_disk(trainer.last_model_file):
                    save_checkpoint(state, best)
        trainer.best_valid_score = state["best_valid_score"]
        trainer.best_valid_result = state["best_valid_result"]


def calibrated(trainer: FofaTrainer, valid_data: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """What changes in a checkpoint.

    All validations draw the same candidates, if they draw any, and the test draws as if there had
    been none of them.
    """
    model, device = trainer.model, trainer.device
    drawn = random_states(device)
    before = deepcopy(model.state_dict()), deepcopy(model.other_parameter())
    model.load_state_dict(state["state_dict"])
    model.load_other_parameter(state["other_parameter"])
    learned = model.network.repeat_intercept()
    results: dict[float, dict[str, float]] = {}

    def told(shift: float) -> float:
        return float(calculate_valid_score(results[shift], trainer.valid_metric))

    def score_of(shift: float) -> float:
        model.network.set_repeat_intercept(learned + shift)
        results[shift] = trainer.evaluate(valid_data, load_best_model=False)
        restore_random_states(drawn, device)
        return told(shift) if trainer.valid_metric_bigger else -told(shift)

    shift = best_shift(score_of)
    changes: dict[str, Any] = {CALIBRATED: {"repeat_bias": shift}}
    changes["config"] = {**state["config"], "calibrate_repeat_bias": True}
    words = f"repeat bias: {shift:+g} for all users"
    if shift:
        model.network.set_repeat_intercept(learned + shift)
        changes["state_dict"] = deepcopy(model.state_dict())
        changes |= {"best_valid_score": told(shift), "best_valid_result": results[shift]}
        words += f"; valid {trainer.config['valid_metric']} {told(0.0):.4f} -> {told(shift):.4f}"
    trainer.logger.info(words)
    model.load_state_dict(before[0])
    model.load_other_parameter(before[1])
    return changes


def best_shift(score_of: Callable[[float], float]) -> float:
    """Where a score with one summit is highest: steps away from 0 double, steps back halve.

    Args:
        score_of: Of a shift; called once for each of 3 to 16.

    Returns:
        A shift with a higher score than that of 0, or 0.
    """
    known = {0.0: score_of(0.0)}

    def score(shift: float) -> float:
        if shift not in known:
            known[shift] = score_of(shift)
        return known[shift]

    best = 0.0
    for direction in (1.0, -1.0):
        ahead = direction
        while abs(ahead) <= LARGEST and score(ahead) > score(best):
            best, ahead = ahead, 2 * ahead
        if best:
            break
    if len(set(known.values())) == 1:
        return best  # nothing depends on it
    step = max(abs(best), 1.0) / 2
    while step >= SMALLEST:
        best = max((best, best - step, best + step), key=score)
        step /= 2
    return best
