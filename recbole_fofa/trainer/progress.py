"""One progress bar an epoch, around the loader that RecBole's loop reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from recbole.utils import get_gpu_usage, set_color
from tqdm import tqdm


class EpochProgress:
    """A training loader with a bar that shows loss, keep rate and GPU memory.

    Args:
        loader: What is iterated over; its other attributes stay reachable.
        epoch: Shown in front of the bar.
        shown: Whether there is a bar at all.
    """

    def __init__(self, loader: Any, epoch: int, shown: bool) -> None:
        self._loader = loader
        label = set_color(f"Train {epoch:>5}", "pink")
        self._bar = tqdm(total=len(loader), ncols=100, desc=label, disable=not shown)

    def __enter__(self) -> EpochProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            yield batch
            self._bar.update()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def show(
        self, losses: Any, device: torch.device | None = None, keep_rate: torch.Tensor | None = None
    ) -> None:
        """Put the latest numbers behind the bar."""
        if self._bar.disable:
            return
        loss = sum(losses) if isinstance(losses, tuple) else losses
        words = [f"loss {loss.item():.4f}"]
        if keep_rate is not None:
            words.append(f"keep {keep_rate.item():.2f}")
        if device is not None:
            words.append("GPU RAM: " + get_gpu_usage(device))
        self._bar.set_postfix_str(", ".join(words))
