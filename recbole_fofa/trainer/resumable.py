"""What a trainer keeps of its state, and how it takes it up again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole.utils import set_color

from recbole_fofa import processes
from recbole_fofa.errors import CheckpointError
from recbole_fofa.trainer.checkpoint import (
    load_checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from recbole_fofa.trainer.evaluation import EvaluatingTrainer
from recbole_fofa.trainer.resume import (
    LAST_SUFFIX,
    NEEDED_TO_RESUME,
    beside,
    changed_settings,
    check_calibrated,
    find_checkpoint,
    make_good,
    set_rates,
)
from recbole_fofa.trainer.shared_training import SharedTraining


class ResumableTrainer(EvaluatingTrainer):
    """The part of ``FofaTrainer`` that keeps checkpoints; it is not built on its own.

    ``<name>.pth`` holds the best epoch and is what is tested, as in RecBole. ``<name>-last.pth``
    holds the last validated epoch with all generators' states; training that resumes from it
    ends with the same numbers, bit for bit on a CPU.
    """

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        self._loader: Any = None
        self._resumed: dict[str, Any] | None = None
        self._latest_valid_result: Any = None
        self._items = self._rows = ""
        self._shared: SharedTraining | None = None

    @property
    def last_model_file(self) -> Path:
        """Where the last epoch is kept."""
        return beside(Path(self.saved_model_file), LAST_SUFFIX)

    def resume_checkpoint(self, resume_file: str | Path) -> None:
        """Continue from a checkpoint: weights, optimizer, best score and all generators.

        Args:
            resume_file: The checkpoint, or the folder of the run.

        Raises:
            ConfigError: If there is none.
            CheckpointError: If the file cannot be read, is of another model, other sizes or
                another way to choose the best epoch, or the best epoch's file is not beside it.
        """
        path = find_checkpoint(resume_file, self.config["model"])
        if processes.is_main():
            make_good(path)
        processes.barrier()
        check_calibrated(path, self.config["calibrate_repeat_bias"])
        state = load_checkpoint(path, self.device)
        if lacking := [name for name in NEEDED_TO_RESUME if name not in state]:
            raise CheckpointError(f"{path} cannot be continued: it lacks {', '.join(lacking)}")
        changed = changed_settings(state["config"], self.config.settings(), path)
        try:
            self.model.load_state_dict(state["state_dict"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            differ = ", ".join(f"{key} ({values})" for key, values in changed.items()) or "none"
            raise CheckpointError(
                f"{path} does not fit the settings; those that differ from its own: {differ}. Set "
                f"them as they were, or start again without resume_from ({error})"
            ) from None
        set_rates(self.optimizer, {key: self.config[key] for key in changed})
        self.model.load_other_parameter(state["other_parameter"])
        self.start_epoch = state["epoch"] + 1
        self.cur_step = state["cur_step"]
        self.best_valid_score = state["best_valid_score"]
        self.best_valid_result = state["best_valid_result"]
        self.saved_model_file = str(beside(path, ".pth"))
        self._resumed = state
        self.logger.info(f"Checkpoint {path} loaded. Resume training from epoch {self.start_epoch}")
        for key, values in changed.items():
            self.logger.warning(f"from epoch {self.start_epoch} on another {key}: {values}")

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        if not processes.is_main():
            return
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        state = self._state(epoch)
        # RecBole saves the best epoch before it notes that epoch's result.
        state["best_valid_result"] = self._latest_valid_result or state["best_valid_result"]
        save_checkpoint(state, path)
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {path}")

    def save_pretrained_model(self, epoch: int, saved_model_file: str) -> None:
        """What S3Rec and RaCT keep of a stage before the last, as a checkpoint like any other."""
        if processes.is_main():
            save_checkpoint(self._state(epoch), saved_model_file)
        self.saved_model_file = saved_model_file

    def _save_last(self, epoch: int) -> None:
        if processes.is_main():
            save_checkpoint(self._state(epoch), self.last_model_file)

    def _state(self, epoch: int) -> dict[str, Any]:
        generator, shared = getattr(self._loader, "generator", None), self._shared
        return {
            "config": self.config.settings(),
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "best_valid_result": self.best_valid_result,
            "state_dict": self.model.state_dict(),
            "other_parameter": self.model.other_parameter(),
            "optimizer": self.optimizer.state_dict(),
            "random": shared.random_states() if shared else random_states(self.device),
            "items": self._items,
            "rows": self._rows,
            "loader": generator.get_state() if generator is not None else None,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if state["loader"] is not None and hasattr(self._loader, "generator"):
            self._loader.generator.set_state(state["loader"].cpu())
        restore_random_states(state["random"], self.device)
        self._resumed = None
