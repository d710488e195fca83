"""Top-k items for anyone's history: ``load(bundle).recommend(histories, k)``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from recbole.utils import ModelType

from recbole_fofa.compat import quiet_known_warnings
from recbole_fofa.config.config import FofaConfig
from recbole_fofa.device_profile import DeviceProfile, load_profile
from recbole_fofa.errors import CheckpointError, ConfigError, DataError, FofaError
from recbole_fofa.evaluator.device_class import device_classes
from recbole_fofa.recommender.forward_ofa import ForwardOFA
from recbole_fofa.serving.histories import History, Token, Vocabulary
from recbole_fofa.serving.model_bundle import ModelBundle, find_bundle, fingerprint
from recbole_fofa.serving.scoring import score

SCORES_AT_ONCE = 1 << 25
"""Scores that are held at a time (128 MiB)."""
USERS_AT_ONCE = 256


@dataclass(frozen=True)
class Recommendation:
    """A list for one history.

    Attributes:
        items: Tokens, the best first; never padding, and fewer than ``k`` if there are no more.
        scores: Of each, descending.
        source: ``popularity`` where the history holds no item that the model knows; scores are
            then shares of the training interactions.
        n_unknown: Items of the history that the model does not know, and did not read.
        structure: 1 for a kept and 0 for a dropped block; ``None`` for models without.
    """

    items: list[str]
    scores: list[float]
    source: Literal["model", "popularity"]
    n_unknown: int
    structure: str | None = None


Answerer = Callable[[Sequence[History]], Iterator[Recommendation]]
"""From histories to their lists."""


def load(
    bundle: str | Path, *, device: str | None = None, model: type | None = None
) -> Recommender:
    """A recommender from a bundle; neither the data set nor a GPU is needed.

    Args:
        bundle: Folder that training or ``run_recbole_fofa bundle`` wrote; or the output folder of
            a run, whose newest bundle is taken.
        device: ``cpu`` or ``cuda``; a GPU where there is one if not given.
        model: The class, where the model was given as a class of your own.

    Raises:
        CheckpointError: If the bundle is missing, damaged, or does not fit its own settings.
        ConfigError: If the model is unknown here, or the device is.
    """
    folder = find_bundle(Path(bundle))
    found = ModelBundle.read(folder)
    return Recommender(found, fingerprint(folder), device=device, model=model)


class Recommender:
    """A trained model that answers histories with lists; it learns nothing from them.

    Args:
        bundle: What was read from a folder.
        fingerprint: The folder's.
        device: See :func:`load`.
        model: See :func:`load`.

    Attributes:
        fingerprint: Tells one bundle from another.
        model: The model, in evaluation mode.
        vocabulary: Its items.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        fingerprint: str,
        *,
        device: str | None = None,
        model: type | None = None,
    ) -> None:
        self.fingerprint = fingerprint
        self.vocabulary = Vocabulary(bundle.items)
        self.model, self._config = _built(bundle, self.vocabulary, device, model)
        counts = np.array([0, *bundle.counts], dtype=np.float64)
        self._popularity = counts / max(1.0, counts.sum())
        self._limits: dict[tuple[Any, int | None], Any] = {}

    def recommend(
        self,
        histories: Iterable[Any],
        k: int = 10,
        *,
        profile: str | Path | DeviceProfile | None = None,
        candidates: Sequence[Token] | None = None,
        mask_history: bool | None = None,
    ) -> Any:
        """The best items for each history.

        Args:
            histories: Histories, each a list of item tokens (text or whole numbers),
                oldest first. One history that is no list of lists gets one answer, not a list. Of
                a long history the newest items are read, of any, unknown ones are left out.
            k: Length of each list.
            profile: Device class whose limits hold (name, YAML file or object).
            candidates: Tokens of the items that may be recommended; all if not given. Unknown
                ones are left out with a warning, once for each place that calls.
            mask_history: Whether no item of the history is recommended; the setting of the same
                name if not given.

        Returns:
            A :class:`Recommendation` for each history.

        Raises:
            ConfigError: If ``k`` is below 1, or the profile does not fit the model.
            DataError: If a history or the candidates hold no tokens.
        """
        if isinstance(histories, (Mapping, pd.DataFrame)):
            raise DataError("histories must be a list of histories; give the values alone")
        # A list: what is read once must not lose its first. In a Series histories[0] is a label.
        histories = histories if isinstance(histories, (str, bytes)) else list(histories)
        single = isinstance(next(iter(histories), None), (str, int, np.integer))
        answer = self.answerer(k, profile, candidates, mask_history)
        found = [
            self.vocabulary.history(history, f"history {number}")
            for number, history in enumerate([histories] if single else histories)
        ]
        answers = list(answer(found))
        return answers[0] if single else answers

    def answerer(
        self,
        k: int,
        profile: str | Path | DeviceProfile | None = None,
        candidates: Sequence[Token] | None = None,
        mask_history: bool | None = None,
    ) -> Answerer:
        """A function from histories to their lists, with everything else checked beforehand."""
        if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
            raise ConfigError(f"k must be a whole number of at least 1, not {k!r}")
        allowed = np.ones(len(self.vocabulary), dtype=bool)
        n_candidates = None
        if candidates is not None:
            known = self.vocabulary.candidates(candidates)
            allowed[:] = False
            allowed[known] = True
            n_candidates = len(set(known))
        allowed[0] = False  # padding
        limits = None if profile is None else self._limits_of(profile, n_candidates)
        if mask_history is None:
            mask_history = bool(self._config["mask_history"])
        masked = mask_history
        size = max(1, min(USERS_AT_ONCE, SCORES_AT_ONCE // len(self.vocabulary)))

        def answer(histories: Sequence[History]) -> Iterator[Recommendation]:
            for start in range(0, len(histories), size):
                yield from self._answer(histories[start : start + size], k, limits, allowed, masked)

        return answer

    def _answer(
        self,
        histories: Sequence[History],
        k: int,
        limits: Any,
        allowed: np.ndarray,
        mask_history: bool,
    ) -> list[Recommendation]:
        """Lists of a chunk: the model's, or the most popular items for want of a history."""
        known = [row for row, history in enumerate(histories) if history.items]
        structures: dict[int, str | None] = {}
        scores = np.empty((len(histories), len(self.vocabulary)), dtype=np.float32)
        scores[:] = self._popularity
        if known:
            found, kept = score(self.model, [histories[row] for row in known], limits)
            scores[known] = found.float().cpu().numpy()
            structures = dict(zip(known, kept, strict=True))
        scores[:, ~allowed] = -np.inf
        if mask_history:
            for row in known:
                scores[row, histories[row].items] = -np.inf
        best = _best(scores, min(int(k), int(allowed.sum())))
        return [
            self._list(history, scores[row], best[row], row in structures, structures.get(row))
            for row, history in enumerate(histories)
        ]

    def _list(
        self,
        history: History,
        scores: np.ndarray,
        best: np.ndarray,
        by_model: bool,
        structure: str | None,
    ) -> Recommendation:
        kept = best[np.isfinite(scores[best])]
        return Recommendation(
            [self.vocabulary.tokens[item] for item in kept],
            scores[kept].tolist(),
            "model" if by_model else "popularity",
            history.n_unknown,
            structure,
        )

    def _limits_of(self, profile: str | Path | DeviceProfile, n_candidates: int | None) -> Any:
        """What fits a profile; worked out once, since it looks at every structure."""
        if isinstance(profile, (str, Path)):
            profile = load_profile(str(profile))
        if not isinstance(self.model, ForwardOFA):
            raise ConfigError(
                f"profile {profile.name}: {type(self.model).__name__} has no structures to choose "
                "from; leave the profile out"
            )
        key = repr(profile), n_candidates
        if key not in self._limits:
            tokens = self.vocabulary.tokens
            (fitting,) = device_classes(self.model, [profile], tokens, n_candidates)
            # Without the tokens, which a decision does not read and every entry would hold again.
            self._limits[key] = replace(fitting.info, items=[])
        return self._limits[key]


def _best(scores: np.ndarray, k: int) -> np.ndarray:
    """The ``k`` best columns of each row, best first; of equal ones the lower first, ``[B, k]``."""
    if k == 0:
        return np.zeros((len(scores), 0), dtype=np.int64)
    rows = torch.from_numpy(scores)
    # Of equal scores topk takes any: rows where that matters are sorted as a whole.
    found = rows.topk(min(k + 1, rows.shape[1]), dim=1)
    last, next_one = found.values[:, k - 1], found.values[:, -1]
    tied = (last == next_one) & last.isfinite() & (found.values.shape[1] > k)
    columns = found.indices[:, :k]
    columns[tied] = rows[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]
    columns = columns.sort(dim=1).values
    order = rows.gather(1, columns).sort(dim=1, descending=True, stable=True).indices
    return columns.gather(1, order).numpy()


class _ItemsAlone:
    """The part of a data set that a sequential model's constructor asks for."""

    def __init__(self, config: FofaConfig, n_items: int) -> None:
        self._item_field, self._n_items = config["ITEM_ID_FIELD"], n_items

    def num(self, field: str) -> int:
        """Number of items, padding included."""
        if field != self._item_field:
            raise ConfigError(f"the model has parameters for each {field}, not for items alone")
        return self._n_items

    @property
    def user_num(self) -> int:
        """What a model asks for that has parameters for each user."""
        raise ConfigError("the model has parameters for each user, not for items alone")


def _built(
    bundle: ModelBundle, vocabulary: Vocabulary, device: str | None, model: type | None
) -> tuple[Any, FofaConfig]:
    """The model with its weights, in evaluation mode."""
    quiet_known_warnings()
    if device not in (None, "cpu") and not str(device).startswith("cuda"):
        raise ConfigError(f"device must be cpu or cuda, not {device!r}")
    if str(device).startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but torch finds no GPU here: set device to cpu")
    # Checks import hooks to see whether they can be: nothing is run because a bundle names it.
    given = {"use_gpu": device != "cpu", "hooks": []}
    config = FofaConfig(model or bundle.model, config_dict=bundle.config | given, needs_data=False)
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        raise CheckpointError(f"{bundle.model} reads no histories, so that it has no bundle")
    try:
        network = config.model_class(config, _ItemsAlone(config, len(vocabulary)))
        network.load_state_dict(bundle.weights)
        if bundle.other is not None:
            network.load_other_parameter(bundle.other)
    except FofaError:
        raise
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{bundle.model} cannot be built from the bundle alone: {error}"
        ) from None
    target = config["device"] if device is None else torch.device(device)
    network.device = target
    return network.to(target).eval(), config
