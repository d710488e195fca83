"""Runs the assembled network with onnxruntime (extra ``onnx``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from recbole_fofa.device.bundle import BaseBundle
from recbole_fofa.device.numpy_backbones import Array
from recbole_fofa.device.payload import block_integers
from recbole_fofa.errors import DeviceError


class OnnxEngine:
    """One session for each number of kept blocks; users come and go as inputs of it.

    Args:
        bundle: What the device holds.
        read_graph: Gives the ONNX file of a number of kept blocks.
        n_threads: Of onnxruntime.
    """

    def __init__(
        self, bundle: BaseBundle, read_graph: Callable[[int], bytes], n_threads: int = 1
    ) -> None:
        self._info = bundle.info
        self._read_graph = read_graph
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = n_threads
        self._sessions: dict[int, Any] = {}

    def scores(
        self,
        kept: Sequence[int],
        parameters: Sequence[Mapping[str, Array]],
        item_emb: Array,
        lengths: Array,
        candidate_emb: Array,
    ) -> Array:
        """As :meth:`recbole_fofa.device.runtime.Engine.scores`."""
        feeds: dict[str, Array] = {
            "item_emb": item_emb,
            "lengths": np.asarray(lengths, np.int64),
            "candidate_emb": candidate_emb,
        }
        for slot, (index, own) in enumerate(zip(kept, parameters, strict=True)):
            inputs = dict(own) | block_integers(self._info, index)
            feeds |= {f"block_{slot}.{name}": value for name, value in inputs.items()}
        scores: Array = self._session(len(kept)).run(["scores"], feeds)[0]
        return scores

    def _session(self, n_kept: int) -> Any:
        if n_kept not in self._sessions:
            session = onnxruntime.InferenceSession(
                self._read_graph(n_kept), self._options, providers=["CPUExecutionProvider"]
            )
            notes = session.get_modelmeta().custom_metadata_map
            if (notes.get("base"), notes.get("n_kept")) != (self._info.base, str(n_kept)):
                raise DeviceError(
                    f"the ONNX graph is of model {notes.get('base')} with {notes.get('n_kept')} "
                    f"blocks, not of {self._info.base} with {n_kept}"
                )
            self._sessions[n_kept] = session
        return self._sessions[n_kept]
