"""After training: one number on all repeat biases, found by validation scores (ours).

The repeat bias learns what makes the data likely, and on targets that the item table has learned by
heart. What ranks best is another question: new items share their probability among so many that the
first of them is a surer guess in training than it will be.
"""

from __future__ import annotations

from collections.abc import Callable
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

if TYPE_CHECKING:
    from recbole_fofa.trainer.trainer import FofaTrainer

CALIBRATED = "calibrated"
"""Key of a checkpoint whose repeat bias has been calibrated already."""
LARGEST, SMALLEST = 16.0, 0.5
"""Steps of the search, in units of scores (nats)."""


class RepeatBiasCalibration(Hook):
    """Shifts the repeat bias of the best epoch where that raises its validation score.

    The score can only rise, and is the one that is told from then on. A checkpoint is calibrated
    once: taken up again, a finished run ends as it did.
    """

    def on_train_end(self, trainer: FofaTrainer, valid_data: Any, saved: bool) -> None:
        """Calibrate the best epoch, in its file and in the model; without files, the last one."""
        if not valid_data or trainer.best_valid_result is None or trainer.config["mask_history"]:
            return
        best = Path(trainer.saved_model_file)
        processes.barrier()  # the main process may still be writing it
        if saved and CALIBRATED in (state := load_checkpoint(best)):
            trainer.best_valid_score = state["best_valid_score"]
            trainer.best_valid_result = state["best_valid_result"]
            return
        score, result = calibrate(trainer, valid_data, load_best_model=saved)
        if not saved:
            return
        trainer.best_valid_score, trainer.best_valid_result = score, result
        if processes.is_main():
            told = {"best_valid_score": score, "best_valid_result": result}
            state |= {"state_dict": trainer.model.state_dict(), CALIBRATED: True, **told}
            with explains_the_disk(trainer.last_model_file):
                save_checkpoint(state, best)


def calibrate(
    trainer: FofaTrainer, valid_data: Any, load_best_model: bool
) -> tuple[float, dict[str, float]]:
    """Shift the repeat bias of the trainer's model; its validation score and all its metrics.

    All validations draw the same candidates, if they draw any, and the test as if there were none.
    """
    network, metric = trainer.model.network, trainer.valid_metric
    states = random_states(trainer.device)
    results = {0.0: trainer.evaluate(valid_data, load_best_model=load_best_model)}
    restore_random_states(states, trainer.device)
    learned = network.repeat_intercept()

    def score_of(shift: float) -> float:
        network.set_repeat_intercept(learned + shift)
        if shift not in results:
            results[shift] = trainer.evaluate(valid_data, load_best_model=False)
            restore_random_states(states, trainer.device)
        score = float(calculate_valid_score(results[shift], metric))
        return score if trainer.valid_metric_bigger else -score

    shift = best_shift(score_of)
    network.set_repeat_intercept(learned + shift)
    before, after = (float(calculate_valid_score(results[at], metric)) for at in (0.0, shift))
    trainer.logger.info(
        f"repeat bias: {shift:+g} for all users; valid {trainer.config['valid_metric']} "
        f"{before:.4f} -> {after:.4f}"
    )
    return after, results[shift]


def best_shift(score_of: Callable[[float], float]) -> float:
    """Where a score is highest: away from 0 in steps that double, then nearer in steps that halve.

    Args:
        score_of: Of a shift; called once for each.

    Returns:
        A shift with a higher score than that of 0, or 0.
    """
    known: dict[float, float] = {}

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
