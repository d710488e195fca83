"""A user's own network on a device, in numpy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Protocol

import numpy as np

from recbole_fofa.device.adaptation import adapt
from recbole_fofa.device.bundle import BaseBundle
from recbole_fofa.device.numpy_backbones import NUMPY_BACKBONES, Array
from recbole_fofa.device.payload import DevicePayload, UserNetwork, user_network
from recbole_fofa.device.uplink import Uplink
from recbole_fofa.errors import DeviceError

Bytes = bytes | bytearray | memoryview
"""What files, sockets and maps of memory give."""


class Engine(Protocol):
    """Runs an assembled network: numpy here, onnxruntime in ``recbole_fofa.device.onnx_engine``.

    The repeat bias is not the network's: :class:`DeviceRuntime` adds it to the scores.

    Attributes:
        base: Fingerprint of the model that it was made from.
    """

    base: str

    def scores(
        self, own: UserNetwork, item_emb: Array, lengths: Array, candidate_emb: Array
    ) -> Array:
        """Scores of candidates, ``[B, C]``.

        Args:
            own: The user's network.
            item_emb: Embeddings of the input, padded on the right, ``[B, T, D]``.
            lengths: Number of items of each row, at least 1, ``[B]``.
            candidate_emb: ``[B, C, D]``.
        """


class NumpyEngine:
    """The network in numpy.

    Args:
        bundle: What the device holds.
    """

    def __init__(self, bundle: BaseBundle) -> None:
        self.base = bundle.info.base
        kind = NUMPY_BACKBONES[bundle.info.backbone]
        self._backbone = kind(bundle.info.sizes, bundle.part("backbone."))

    def scores(
        self, own: UserNetwork, item_emb: Array, lengths: Array, candidate_emb: Array
    ) -> Array:
        """As :meth:`Engine.scores`."""
        x = self._backbone.embed(item_emb)
        for index, parameters in zip(own.kept, own.parameters, strict=True):
            x = self._backbone.apply_block(index, x, parameters)
        last = self._backbone.finish(x)[np.arange(len(x)), lengths - 1]
        if own.output_bias is not None:
            last = last + own.output_bias
        scores: Array = np.einsum("bd,bcd->bc", last, candidate_emb)
        return scores


class DeviceRuntime:
    """Adapts at the start of a session, applies what comes back, scores candidates.

    Args:
        bundle: What the device holds, as a file's bytes or read.
        engine: Runs the network; numpy if not given.

    Attributes:
        unknown_items: Items that were asked for and are not in the cache, so far.
        payload: What was applied last; ``None`` before.

    Raises:
        DeviceError: If the bundle is damaged, of another version, or the engine is of another
            model.
    """

    def __init__(self, bundle: Bytes | BaseBundle, engine: Engine | None = None) -> None:
        if not isinstance(bundle, BaseBundle):
            bundle = BaseBundle.from_bytes(bytes(bundle))
        self.bundle = bundle
        self._rows = {token: row for row, token in enumerate(self.bundle.info.items)}
        self._engine = engine if engine is not None else NumpyEngine(self.bundle)
        if self._engine.base != self.bundle.info.base:
            raise DeviceError(
                f"the engine is of model {self._engine.base}, the bundle of {self.bundle.info.base}"
            )
        self._own: UserNetwork | None = None
        self.payload: DevicePayload | None = None
        self.unknown_items = 0

    def uplink(self, behaviour: Sequence[str]) -> Uplink:
        """What to send to the cloud.

        Args:
            behaviour: Tokens of the user's items, oldest first; the newest of them count.
        """
        info = self.bundle.info
        rows = self._known(_listed(behaviour))[-info.adapt_length :]
        structure, interest = adapt(self.bundle, self._embeddings(rows))
        return Uplink(info.base, info.profile, structure, interest)

    def apply(self, payload: Bytes | DevicePayload) -> None:
        """Put a payload in the place of the one before; a refused one changes nothing.

        Raises:
            DeviceError: If it is damaged, or not for this device; see :class:`DevicePayload`.
        """
        if isinstance(payload, DevicePayload):
            payload.check(self.bundle.info)
        else:
            payload = DevicePayload.from_bytes(bytes(payload), self.bundle.info)
        own = user_network(self.bundle, payload)
        self.payload, self._own = payload, own

    def score(self, recent: Sequence[str], candidates: Sequence[str]) -> Array:
        """Scores of candidates, one for each.

        Args:
            recent: Tokens of the user's items, oldest first. The newest of them are what the
                network reads; all but very old ones count as had before (``seen_length``).
            candidates: Tokens of cached items.

        Raises:
            DeviceError: Before any payload, for an unknown candidate, or if no recent item is
                known.
        """
        if self._own is None:
            raise DeviceError("no payload yet: call apply() with what the cloud sends")
        recent, candidates = _listed(recent), _listed(candidates)
        missing = [token for token in candidates if token not in self._rows]
        if missing:
            raise DeviceError(f"candidate {missing[0]!r} is not among the cached items")
        had = self._known(recent)
        rows = had[-self.bundle.info.max_length :]
        if not rows:
            raise DeviceError(
                f"none of the {len(recent)} recent items is cached: there is nothing to score from"
            )
        wanted = [self._rows[token] for token in candidates]
        item_emb, candidate_emb = self._embeddings(rows)[None], self._embeddings(wanted)[None]
        scores = self._engine.scores(self._own, item_emb, np.array([len(rows)]), candidate_emb)
        first: Array = scores[0]
        if self._own.repeat_bias is not None:
            seen = had[-self.bundle.info.seen_length :]
            first = first + self._own.repeat_bias * np.isin(wanted, seen)
        return first

    def recommend(self, recent: Sequence[str], candidates: Sequence[str], k: int) -> list[str]:
        """The ``k`` best candidates, best first; ties in the order of the candidates.

        Raises:
            DeviceError: As :meth:`score`, or if ``k`` is no whole number of at least 1.
        """
        if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
            raise DeviceError(f"k must be a whole number of at least 1, not {k!r}")
        candidates = _listed(candidates)
        order = np.argsort(-self.score(recent, candidates), kind="stable")
        return [candidates[place] for place in order[: int(k)]]

    def _known(self, tokens: Sequence[str]) -> list[int]:
        rows = [self._rows[token] for token in tokens if token in self._rows]
        self.unknown_items += len(tokens) - len(rows)
        return rows

    def _embeddings(self, rows: Sequence[int]) -> Array:
        chosen: Array = self.bundle.tensors["item_embedding"][np.asarray(rows, dtype=np.int64)]
        return chosen


def _listed(tokens: Iterable[str]) -> list[str]:
    """Tokens as a list; one token alone would be taken letter by letter."""
    if isinstance(tokens, str):
        raise DeviceError(f"a list of items is expected, not {tokens!r} alone")
    return list(tokens)
