"""RecBole's trainer with safe checkpoints, exact resume and errors that name the part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.utils import set_color

from recbole_fofa import processes
from recbole_fofa.compat.logs import tensorboard_folder, unused_path
from recbole_fofa.errors import TrainingDivergedError
from recbole_fofa.trainer.checkpoint import check_items, items_digest, rows_digest
from recbole_fofa.trainer.disk import check_space, explains_the_disk
from recbole_fofa.trainer.divergence import first_culprit
from recbole_fofa.trainer.hooks import Hook, Step, load_hooks
from recbole_fofa.trainer.progress import EpochProgress
from recbole_fofa.trainer.record import EpochRecord
from recbole_fofa.trainer.resumable import ResumableTrainer
from recbole_fofa.trainer.resume import beside
from recbole_fofa.trainer.shared_training import SharedTraining


class FofaTrainer(ResumableTrainer):
    """What every model gets, RecBole's own included.

    Attributes:
        hooks: What looks at training and steers it.
        n_steps: Steps of the epoch that is trained.
    """

    def __init__(self, config: Any, model: Any) -> None:
        # RecBole looks for the folder and then makes it, which two processes may do at once.
        Path(config["checkpoint_dir"]).mkdir(parents=True, exist_ok=True)
        with tensorboard_folder(config["output_dir"]):
            super().__init__(config, model)
        # RecBole's name ends with the second, which is too coarse for short runs.
        self.saved_model_file = processes.from_main(str(unused_path(Path(self.saved_model_file))))
        self.hooks: list[Hook] = [*self._own_hooks(), *load_hooks(config["hooks"] or [])]
        self._record = EpochRecord(None)
        self._numbers: dict[str, float] = {}
        self._epoch = 0
        self._step = 0
        self.n_steps = 0
        if processes.world_size() > 1:
            self._shared = SharedTraining(model, self.device, config["seed"], self.clip_grad_norm)
            self.clip_grad_norm = None  # RecBole's place for it is before the gradients are added

    def fit(  # type: ignore[override]
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Any = None,
    ) -> Any:
        """As RecBole's; after each validation the last epoch is kept too."""
        if self._has_epochs_left(train_data):
            self._prepare_to_train(saved)

            def after_validation(epoch: int, score: float) -> None:
                if saved:
                    self._save_last(epoch)
                if callback_fn is not None:
                    callback_fn(epoch, score)

            with self._around_steps(), explains_the_disk(self.last_model_file):
                super().fit(train_data, valid_data, verbose, saved, show_progress, after_validation)
        else:
            self.eval_collector.data_collect(train_data)  # as RecBole's fit does, for some metrics
        for hook in self.hooks:
            hook.on_train_end(self, valid_data, saved)
        return self.best_valid_score, self.best_valid_result

    def _has_epochs_left(self, train_data: Any) -> bool:
        """Take the training data, and the state to resume from if there is one."""
        self._loader = train_data
        self._items = items_digest(train_data._dataset)
        self._rows = rows_digest(train_data._dataset)
        if self._resumed is None:
            return True
        check_items(self._resumed, train_data._dataset, "the checkpoint to resume from")
        self._restore(self._resumed)
        if self.start_epoch < self.epochs and self.cur_step <= self.stopping_step:
            return True
        self.logger.info(f"All {self.start_epoch} epochs are done; nothing is trained")
        return False

    def _prepare_to_train(self, saved: bool) -> None:
        if saved and processes.is_main():
            best = Path(self.saved_model_file)
            check_space([best, self.last_model_file], self.model, self.learner)
            self._record = EpochRecord(beside(best, ".epochs.jsonl"))
        for hook in self.hooks:
            hook.on_train_start(self)

    @contextmanager
    def _around_steps(self) -> Iterator[None]:
        """What is done before and after each step of the optimizer."""
        handles = [self.optimizer.register_step_post_hook(self._after_step)]
        if self._shared is not None:
            self._shared.start()
            handles.append(self.optimizer.register_step_pre_hook(self._shared.before_step))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False
    ) -> Any:
        self._epoch, self._step = epoch_idx, 0
        if hasattr(train_data, "set_epoch"):
            train_data.set_epoch(epoch_idx)
        if self._shared is not None:
            self._shared.start_epoch(epoch_idx)
        self.n_steps = len(train_data)
        for hook in self.hooks:
            hook.on_epoch_start(self, epoch_idx)
        loss_func = loss_func or self.model.calculate_loss
        with EpochProgress(train_data, epoch_idx, show_progress) as progress:

            def step(interaction: Interaction) -> Any:
                self._step += 1
                self._batch = interaction
                if self._shared is None:
                    losses = loss_func(interaction)
                else:
                    losses = self._shared.losses(loss_func, interaction, train_data.part)
                progress.show(
                    losses, self.device if self.gpu_available else None, self._keep_rate()
                )
                return losses

            losses = super()._train_epoch(progress, epoch_idx, loss_func=step, show_progress=False)
        if self._shared is not None:
            self._shared.end_epoch()
        if not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            raise self._diverged("the last step's update is not finite")
        self._numbers = self._named_losses(losses)
        for hook in self.hooks:
            self._numbers |= hook.on_epoch_end(self, epoch_idx)
        total = sum(losses) if isinstance(losses, tuple) else losses
        self._publish("train", {"loss": total}, self._numbers)
        return losses

    def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> Any:
        score, result = super()._valid_epoch(valid_data, show_progress)
        self._latest_valid_result = result
        found: dict[str, float] = {}
        for hook in self.hooks:
            found |= hook.on_evaluation_end(self, self._epoch, result)
        if found:
            self.logger.info(
                set_color(f"epoch {self._epoch} monitored", "green") + f" [{self._words(found)}]"
            )
        self._publish("valid", result, found)
        return score, result

    def _after_step(self, *_: Any) -> None:
        step = Step(self._epoch, self._step, self._batch)
        for hook in self.hooks:
            hook.on_step_end(self, step)

    def _own_hooks(self) -> list[Hook]:
        """Hooks of this kind of model; those of the user come after them."""
        return []

    def _generate_train_loss_output(
        self, epoch_idx: int, s_time: float, e_time: float, losses: Any
    ) -> str:
        """RecBole's line, then what else is known by name."""
        line: str = super()._generate_train_loss_output(epoch_idx, s_time, e_time, losses)
        return f"{line[:-1]}, {self._words(self._numbers)}]" if self._numbers else line

    def _named_losses(self, losses: Any) -> dict[str, float]:
        """Parts of an epoch's loss by name, as sums over its steps."""
        return {}

    def _publish(
        self, phase: str, known: Mapping[str, float], numbers: Mapping[str, float]
    ) -> None:
        """All to the record; what RecBole does not know of, also to TensorBoard and wandb."""
        self._record.write(self._epoch, phase, {**known, **numbers})
        for name, value in numbers.items():
            self.tensorboard.add_scalar(f"{phase}/{name}", value, self._epoch)
        if numbers:
            self.wandblogger.log_metrics({"epoch": self._epoch, **numbers}, head=phase)

    def _words(self, numbers: dict[str, float]) -> str:
        decimals = self.config["loss_decimal_place"] or 4
        return ", ".join(
            f"{set_color(name, 'blue')}: {value:.{decimals}f}" for name, value in numbers.items()
        )

    def _keep_rate(self) -> torch.Tensor | None:
        """Keep rate of the latest batch, for the progress bar; of models that have gates."""
        return None

    def _check_nan(self, loss: torch.Tensor) -> None:
        if bool(loss.isfinite()):
            return
        raise self._diverged(f"loss is {loss.item()}")

    def _diverged(self, what: str) -> TrainingDivergedError:
        culprit = first_culprit(self.model, self._batch)
        return TrainingDivergedError(
            f"{what} in epoch {self._epoch}, step {self._step}: {culprit}. "
            f"The last good checkpoint stays. Lower learning_rate ({self.learning_rate}), or set "
            "clip_grad_norm: {max_norm: 5}"
        )
