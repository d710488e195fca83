"""Training in several processes: what each does so that together they do what one would.

No DistributedDataParallel: the gradients of all parameters are added up in one go between the
backward pass and the optimizer's step, and a parameter that a process has no gradient of counts as
zero there. So nothing depends on which blocks a process's users have dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from recbole_fofa import processes
from recbole_fofa.data.batch_part import BatchPart
from recbole_fofa.model.batch import WHOLE, Batch
from recbole_fofa.trainer.checkpoint import random_states


class SharedBatch(Batch):
    """A batch of which other processes hold the other rows.

    Args:
        part: What is here.
        noise: In the same state in all processes. Each draws for the whole batch and keeps its own
            rows', so that a row has the same noise wherever it is.
    """

    def __init__(self, part: BatchPart, noise: torch.Generator) -> None:
        self._part = part
        self._noise = noise
        self._rows = torch.from_numpy(part.rows)

    def sum(self, value: Tensor) -> Tensor:
        return processes.add_up(value if self._part.row_share else value * 0)

    def mean_over_rows(self, value: Tensor) -> Tensor:
        return processes.add_up(value * self._part.row_share)

    def mean_over_targets(self, value: Tensor) -> Tensor:
        return processes.add_up(value * self._part.target_share)

    def exponential(self, like: Tensor) -> Tensor:
        whole = like.new_empty(self._part.n_rows, *like.shape[1:])
        return whole.exponential_(generator=self._noise)[self._rows.to(like.device)]

    def integers(self, high: int, n_rows: int, device: torch.device) -> Tensor:
        whole = torch.randint(high, (self._part.n_rows,), device=device, generator=self._noise)
        return whole[self._rows.to(device)]


class SharedTraining:
    """One process's side of a training that several processes do.

    Two streams of random numbers take the place of torch's one: what is drawn for a row comes from
    a stream that is the same in all processes and goes on where that of one process stands;
    dropout's masks come from torch's own, which differs between processes and follows from the
    seed and the epoch.

    Args:
        model: The model.
        device: Where it is.
        seed: Of the run.
        clip_grad_norm: Arguments of ``clip_grad_norm_``, or ``None``.
    """

    def __init__(
        self, model: nn.Module, device: torch.device, seed: int, clip_grad_norm: Any
    ) -> None:
        self._model = model
        self._device = device
        self._seed = seed
        self._clip_grad_norm = clip_grad_norm
        self._noise = torch.Generator(device)

    def start(self) -> None:
        """All begin with the main process's parameters and at one place of the row stream."""
        for tensor in (*self._model.parameters(), *self._model.buffers()):
            processes.copy_from_main(tensor.data)
        self._noise.set_state(random_states(self._device)[self._stream])

    def start_epoch(self, epoch: int) -> None:
        """Draw other dropout masks than the other processes, and than in other epochs."""
        stream = np.random.SeedSequence([self._seed, epoch, processes.rank()])
        torch.manual_seed(int(stream.generate_state(1, np.uint64)[0]) >> 1)

    def end_epoch(self) -> None:
        """Running statistics are those of each process's rows: the main process's are kept."""
        for buffer in self._model.buffers():
            processes.copy_from_main(buffer)

    def losses(self, loss_func: Callable[[Any], Any], interaction: Any, part: BatchPart) -> Any:
        """The loss of the whole batch, with the gradient of this process's rows.

        Args:
            loss_func: The model's; where the model knows nothing of batches that are shared, what
                it returns is taken as a mean over rows.
            interaction: This process's rows.
            part: Which they are.
        """
        batch = SharedBatch(part, self._noise)
        if isinstance(getattr(self._model, "batch", None), Batch):
            with _handed_in(self._model, batch):
                return loss_func(interaction)
        losses = loss_func(interaction)
        if isinstance(losses, tuple):
            return tuple(batch.mean_over_rows(loss) for loss in losses)
        return batch.mean_over_rows(losses)

    def before_step(self, *_: Any) -> None:
        """Add up the gradients, then clip them: a hook of the optimizer's step."""
        trained = [p for p in self._model.parameters() if p.requires_grad]
        add_up_gradients(trained)
        if self._clip_grad_norm:
            clip_grad_norm_(trained, **self._clip_grad_norm)

    def random_states(self) -> dict[str, Any]:
        """As :func:`random_states`, with the row stream as torch's: one process can go on."""
        return {**random_states(self._device), self._stream: self._noise.get_state()}

    @property
    def _stream(self) -> str:
        return "cuda" if self._device.type == "cuda" else "torch"


def add_up_gradients(parameters: list[nn.Parameter]) -> None:
    """Give each parameter the sum of all processes' gradients.

    A gradient that some processes lack counts as zero; one that all lack stays absent, so that the
    optimizer passes over it as it does in one process.
    """
    has = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32)
    found = processes.add_up(has).tolist()
    wanted = [p for p, n_found in zip(parameters, found, strict=True) if n_found]
    if not wanted:
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in wanted]
    flat = processes.add_up(torch.cat([gradient.flatten() for gradient in gradients]))
    for parameter, part in zip(wanted, flat.split([p.numel() for p in wanted]), strict=True):
        parameter.grad = part.view_as(parameter)


@contextmanager
def _handed_in(model: Any, batch: Batch) -> Iterator[None]:
    model.batch = batch
    try:
        yield
    finally:
        model.batch = WHOLE
