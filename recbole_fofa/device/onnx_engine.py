"""Runs the assembled network with onnxruntime (extra ``onnx``)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from recbole_fofa.device.bundle import BaseBundle
from recbole_fofa.device.numpy_backbones import Array
from recbole_fofa.device.payload import UserNetwork, block_integers
from recbole_fofa.errors import DeviceError

CHECKSUMS = "graphs.json"
"""Beside the graphs of an export: SHA-256 of each by its number of kept blocks."""


def open_session(data: bytes, options: Any = None) -> Any:
    """An onnxruntime session on the CPU.

    Raises:
        DeviceError: If the file is no ONNX graph.
    """
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds
        raise DeviceError(f"not an ONNX graph that onnxruntime can load: {error}") from None


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
        self.base = bundle.info.base
        self._read_graph = read_graph
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = n_threads
        self._sessions: dict[int, Any] = {}

    def scores(
        self, own: UserNetwork, item_emb: Array, lengths: Array, candidate_emb: Array
    ) -> Array:
        """As :meth:`recbole_fofa.device.runtime.Engine.scores`."""
        feeds: dict[str, Array] = {
            "item_emb": item_emb,
            "lengths": np.asarray(lengths, np.int64),
            "candidate_emb": candidate_emb,
        }
        if own.output_bias is not None:
            feeds["output_bias"] = own.output_bias
        for slot, (index, tensors) in enumerate(zip(own.kept, own.parameters, strict=True)):
            inputs = tensors | block_integers(self._info, index)
            feeds |= {f"block_{slot}.{name}": value for name, value in inputs.items()}
        scores: Array = self._session(len(own.kept)).run(["scores"], feeds)[0]
        return scores

    @classmethod
    def from_folder(cls, bundle: BaseBundle, folder: str | Path, n_threads: int = 1) -> OnnxEngine:
        """With the graphs of an export, each checked against the checksum that it wrote.

        Raises:
            DeviceError: When a graph is first needed, and missing, damaged or of another model.
        """
        place = Path(folder)

        def read_graph(n_kept: int) -> bytes:
            try:
                checksums = json.loads((place / CHECKSUMS).read_text(encoding="utf-8"))
                data = (place / f"network-{n_kept}.onnx").read_bytes()
                expected = checksums[str(n_kept)]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise DeviceError(f"no graph of {n_kept} blocks in {place}: {error!r}") from None
            if hashlib.sha256(data).hexdigest() != expected:
                raise DeviceError(f"{place / f'network-{n_kept}.onnx'} is damaged: export it again")
            return data

        return cls(bundle, read_graph, n_threads)

    def _session(self, n_kept: int) -> Any:
        if n_kept not in self._sessions:
            session = open_session(self._read_graph(n_kept), self._options)
            notes = session.get_modelmeta().custom_metadata_map
            if (notes.get("base"), notes.get("n_kept")) != (self._info.base, str(n_kept)):
                raise DeviceError(
                    f"the ONNX graph is of model {notes.get('base')} with {notes.get('n_kept')} "
                    f"blocks, not of {self._info.base} with {n_kept}"
                )
            self._sessions[n_kept] = session
        return self._sessions[n_kept]


class StandaloneEngine:
    """One user's own graph, with the weights inside.

    Args:
        data: The ONNX file.

    Attributes:
        base: Fingerprint of the model that it was made from.

    Raises:
        DeviceError: If the file is no ONNX graph, or not one of these.
    """

    def __init__(self, data: bytes) -> None:
        self._session = open_session(data)
        self._notes = self._session.get_modelmeta().custom_metadata_map
        if not {"base", "structure", "payload"} <= set(self._notes):
            raise DeviceError("the ONNX graph is no user's own: export it with format standalone")
        self.base: str = self._notes["base"]

    def scores(
        self, own: UserNetwork, item_emb: Array, lengths: Array, candidate_emb: Array
    ) -> Array:
        """As :meth:`recbole_fofa.device.runtime.Engine.scores`; the user's network is inside.

        Raises:
            DeviceError: If it is another user's than ``own``.
        """
        if own.mark != self._notes["payload"]:
            raise DeviceError(
                f"the ONNX graph, of structure {self._notes['structure']}, is not of the payload's "
                "user: open the file that the manifest names beside it"
            )
        feeds = {"item_emb": item_emb, "lengths": lengths, "candidate_emb": candidate_emb}
        scores: Array = self._session.run(["scores"], feeds)[0]
        return scores
