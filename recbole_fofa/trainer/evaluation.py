"""The trainer's evaluation: safe checkpoints, histories that are masked, processes that share."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer

from recbole_fofa import processes
from recbole_fofa.data.dataset import POSITION
from recbole_fofa.data.sequences import Histories
from recbole_fofa.errors import TrainingDivergedError
from recbole_fofa.trainer.checkpoint import load_checkpoint
from recbole_fofa.trainer.collector import SharedCollector


class EvaluatingTrainer(Trainer):
    """The part of ``FofaTrainer`` that evaluates; it is not built on its own.

    Several processes load every batch, so that all draw the same candidates, and each scores its
    own; what RecBole's metrics are computed from is gathered in the loader's order.
    """

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        self.eval_collector = SharedCollector(config)
        self._eval_histories: Histories | None = None
        self._own_batches = range(0)
        self._n_evaluated = 0
        self._batch: Interaction | None = None

    def evaluate(  # type: ignore[override]
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> Any:
        """As RecBole's, with a checkpoint that is read safely and plain numbers as the result."""
        if load_best_model and eval_data:
            path = model_file or self.saved_model_file
            processes.barrier()  # the main process may still be writing it
            state = load_checkpoint(path, self.device)
            self.model.load_state_dict(state["state_dict"])
            self.model.load_other_parameter(state["other_parameter"])
            self.logger.info(f"Loading model structure and parameters from {path}")
        self._eval_histories = getattr(getattr(eval_data, "_dataset", None), "histories", None)
        self._n_evaluated = 0
        self._own_batches = own_batches(len(eval_data)) if eval_data else range(0)
        result = super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)
        # What follows from a result, such as an early stop, must be the same for all processes.
        return processes.from_main(
            result and {name: float(value) for name, value in result.items()}
        )

    def _diverged(self, what: str) -> TrainingDivergedError:
        """The error for numbers that are no longer finite; ``FofaTrainer`` knows where it is."""
        raise NotImplementedError

    def _is_evaluated_here(self) -> bool:
        """Whether the next batch of an evaluation is this process's; all processes load all."""
        self._n_evaluated += 1
        return processes.world_size() == 1 or self._n_evaluated - 1 in self._own_batches

    def _neg_sample_batch_eval(self, batched_data: Any) -> Any:
        if not self._is_evaluated_here():
            return batched_data[0], None, None, None
        return super()._neg_sample_batch_eval(batched_data)

    def _full_sort_batch_eval(self, batched_data: Any) -> Any:
        if not self._is_evaluated_here():
            return batched_data[0], None, None, None
        interaction, scores, positive_u, positive_i = super()._full_sort_batch_eval(batched_data)
        if bool(scores.isnan().any()):
            self._batch = interaction
            raise self._diverged("scores are not a number after training")
        if self.config["mask_history"] and self._eval_histories is not None:
            self._mask_history(interaction, scores, self._eval_histories)
        return interaction, scores, positive_u, positive_i

    @staticmethod
    def _mask_history(interaction: Interaction, scores: torch.Tensor, histories: Histories) -> None:
        """No item that the user has had, however long ago, is ranked."""
        positions = interaction[POSITION].cpu().numpy()
        seen = histories.slices(histories.starts[positions], positions).to(scores.device)
        scores.scatter_(1, seen, -torch.inf)


def own_batches(n_batches: int) -> range:
    """This process's batches of an evaluation: neighbours, so that results come in order."""
    return processes.part_of(n_batches, processes.rank(), processes.world_size())
