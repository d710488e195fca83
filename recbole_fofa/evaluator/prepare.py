"""What can be known to be wrong before a model is trained or evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_fofa.device_profile import DeviceProfile
from recbole_fofa.errors import ConfigError
from recbole_fofa.evaluator.candidates import (
    Candidates,
    check_enough,
    load_candidates,
    width_of,
)
from recbole_fofa.evaluator.cases import Cases, cases_of
from recbole_fofa.evaluator.device_class import DeviceClass, device_classes
from recbole_fofa.evaluator.quality import CaseMetrics
from recbole_fofa.recommender.forward_ofa import ForwardOFA


@dataclass(frozen=True)
class Options:
    """How to evaluate.

    Attributes:
        profiles: Device classes.
        candidates: ``full`` for all items, a kind such as ``uni99``, ``pop99``, ``retrieval100``,
            or a ``.npy`` file of candidates.
        mask_history: Whether no item before the target is ranked.
        ages: See :class:`DeviceAdaptationEvaluator`.
        seed: Of candidates and of the shuffling.
        phase: ``test`` or ``valid``.
        times: Whether to measure milliseconds of requests.
        yardsticks: Whether shuffled and fixed structures stand beside those that are chosen.
    """

    profiles: Sequence[DeviceProfile]
    candidates: str = "full"
    mask_history: bool = False
    ages: Sequence[int] = (1, 5, 10, 20, 50)
    seed: int = 0
    phase: str = "test"
    times: bool = True
    yardsticks: bool = True

    @property
    def is_file(self) -> bool:
        """Whether candidates come from a file."""
        return self.candidates.endswith(".npy")

    def faults(self) -> list[str]:
        """Contradictions, found before anything long."""
        faults = []
        names = [profile.name for profile in self.profiles]
        if not names:
            faults.append("no device profile is given: name one, such as low")
        if not 0 <= self.seed < 2**63:
            faults.append(f"seed must be a whole number from 0 to 2^63 - 1; got {self.seed}")
        if len(set(names)) < len(names):
            faults.append(f"two device profiles have one name ({', '.join(names)}): rename one")
        if any(age < 1 for age in self.ages):
            faults.append(f"ages must be whole numbers of at least 1; got {list(self.ages)}")
        if not (self.candidates == "full" or width_of(self.candidates) or self.is_file):
            faults.append(
                f"candidates must be full, uni99, pop99, retrieval100 (any number) or a .npy file; "
                f"got {self.candidates!r}"
            )
        if self.is_file and not Path(self.candidates).is_file():
            faults.append(f"no file of candidates {self.candidates}")
        return faults


@dataclass(frozen=True)
class Prepared:
    """What was checked.

    Attributes:
        cases: What is evaluated.
        metrics: Of each case.
        stored: Candidates from a file.
        n_candidates: Items that a request ranks; ``None`` for all.
        classes: The profiles as the model serves them; none for a model without structures.
        free: A device class without limits; ``None`` for such a model.
    """

    cases: Cases
    metrics: CaseMetrics
    stored: Candidates | None
    n_candidates: int | None
    classes: list[DeviceClass]
    free: DeviceClass | None


def prepare(model: Any, train_data: Any, eval_data: Any, options: Options) -> Prepared:
    """Check options, data and model; the model need not be trained yet.

    Args:
        model: Its sizes count, not its values.
        train_data: The loader that it is trained on.
        eval_data: The loader of the phase.
        options: How.

    Raises:
        ConfigError, DataError: With what is wrong.
    """
    if faults := options.faults():
        raise ConfigError(faults)
    cases = cases_of(eval_data, train_data)
    config = eval_data._dataset.config
    metrics = CaseMetrics(config["metrics"], config["topk"])
    stored = load_candidates(Path(options.candidates), cases) if options.is_file else None
    n_candidates = stored.width if stored is not None else width_of(options.candidates)
    if n_candidates is not None and stored is None:
        check_enough(cases, options.candidates)
    if not isinstance(model, ForwardOFA):
        all_scores(model, eval_data, slice(0, 1))
        return Prepared(cases, metrics, stored, n_candidates, [], None)
    profiles = [*options.profiles, DeviceProfile(name="free")]
    *classes, free = device_classes(model, profiles, cases.item_tokens, n_candidates)
    return Prepared(cases, metrics, stored, n_candidates, classes, free)


@torch.no_grad()
def all_scores(model: Any, eval_data: Any, chosen: slice) -> torch.Tensor:
    """A model's own scores of all items for some cases, ``[B, N]``, in evaluation mode.

    Raises:
        ConfigError: If it gives none.
    """
    was_training = model.training
    model.eval()
    interaction = eval_data._dataset[np.arange(chosen.start, chosen.stop)]
    try:
        scores = model.full_sort_predict(interaction.to(model.device))
    except NotImplementedError:
        raise ConfigError(
            f"{type(model).__name__} gives no scores of all items (full_sort_predict), which are "
            "what is ranked"
        ) from None
    finally:
        model.train(was_training)
    found: torch.Tensor = scores.view(chosen.stop - chosen.start, -1)
    return found
