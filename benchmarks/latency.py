"""A request on the device: assembled networks of k of L blocks, side by side in one process.

Batch 1, one thread. In torch, numpy and onnxruntime; beside them the masked network as the cloud
runs it, and the dense static network, all of the same sizes. What runs is interleaved, so that a
busy machine slows all rows alike.

    python benchmarks/latency.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from record import append_line, provenance
from threadpoolctl import threadpool_limits

from recbole_fofa.cloud.assemble import assemble, assembled_network, make_bundle
from recbole_fofa.cloud.cost import structure_cost
from recbole_fofa.cloud.onnx_graph import make_graph
from recbole_fofa.cloud.population import item_tokens
from recbole_fofa.device.bundle import bundle_size
from recbole_fofa.device.onnx_engine import OnnxEngine
from recbole_fofa.device.payload import user_network
from recbole_fofa.device.runtime import NumpyEngine
from recbole_fofa.device_profile import DeviceProfile
from recbole_fofa.model.assembled import AssembledNetwork
from recbole_fofa.model.network import Decision
from recbole_fofa.quick_start import build_model, checked_config, prepare_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n_layers", type=int, default=8)
    parser.add_argument("--hidden_size", type=int, default=64)
    parser.add_argument("--backbone", default="sasrec")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    origin = provenance(1)
    model, loader = untrained(arguments)
    calls, costs = ways(model, item_tokens(loader._dataset), arguments)
    with threadpool_limits(1):  # numpy's
        times = interleaved(calls, arguments.rounds)
    full = {kind: float(np.median(times[kind, arguments.n_layers])) for kind, _ in calls}
    for (kind, n_kept), seconds in times.items():
        line = {
            "way": kind,
            "backbone": arguments.backbone,
            "n_layers": arguments.n_layers,
            "n_kept": n_kept,
            "hidden_size": arguments.hidden_size,
            "input_length": 50,
            "candidates": arguments.candidates,
            **costs[n_kept],
            "p50_ms": round(1000 * float(np.median(seconds)), 4),
            "p95_ms": round(1000 * float(np.percentile(seconds, 95)), 4),
            "ratio_to_full": round(float(np.median(seconds)) / full[kind], 3),
            "ratio_to_static": round(
                float(np.median(seconds) / np.median(times["static", arguments.n_layers])), 3
            ),
        }
        append_line("latency", line | origin)
        print(kind, n_kept, line["p50_ms"], line["ratio_to_full"], line["ratio_to_static"])


def untrained(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Latency does not depend on the values of parameters."""
    settings = {
        "quiet": True,
        "n_layers": arguments.n_layers,
        "hidden_size": arguments.hidden_size,
        "inner_size": 4 * arguments.hidden_size,
        "backbone": arguments.backbone,
    }
    config = checked_config(config_dict=settings)
    train, *_ = prepare_data(config)
    return build_model(config, train).eval(), train


@torch.no_grad()
def ways(model: Any, tokens: list[str], arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Each way and number of kept blocks as a call without arguments; and its costs."""
    n_layers, width = arguments.n_layers, arguments.hidden_size
    bundle = make_bundle(model, DeviceProfile(name="all"), tokens)
    engines = {
        "numpy": NumpyEngine(bundle),
        "onnxruntime": OnnxEngine(bundle, lambda n: make_graph(bundle, n)),
    }
    item_emb, candidates = torch.randn(1, 50, width), torch.randn(1, arguments.candidates, width)
    lengths, interest = torch.tensor([50]), torch.randn(width)
    size = bundle_size(bundle.info, bundle.tensors)
    arrays = (item_emb.numpy(), lengths.numpy(), candidates.numpy())
    calls: dict[tuple[str, int], Callable[[], Any]] = {}
    costs = {}
    for n_kept in range(n_layers + 1):
        structure = tuple(int(index < n_kept) for index in range(n_layers))
        costs[n_kept] = vars(structure_cost(model.network, bundle.info, size, structure)) | {
            "block_parameters": n_kept * model.network.backbone.blocks[0].size
        }
        payload = assemble(model, bundle.info, structure, interest)
        own = user_network(bundle, payload)
        network = assembled_network(model, bundle, payload)
        calls["assembled in torch", n_kept] = lambda n=network: n(item_emb, lengths, candidates)
        for name, engine in engines.items():
            calls[name, n_kept] = lambda e=engine, o=own: e.scores(o, *arrays)
        rows = torch.tensor([structure], dtype=torch.float32)
        adaptation = model.network.generate(Decision(rows, interest[None], None))
        calls["masked in the cloud", n_kept] = lambda a=adaptation: (
            model.network(item_emb, a)[:, -1] @ candidates[0].T
        )
    base = [dict(block.named_parameters()) for block in model.network.base]
    static = AssembledNetwork(model.network.backbone, range(n_layers), base)
    calls["static", n_layers] = lambda: static(item_emb, lengths, candidates)
    return calls, costs


@torch.no_grad()
def interleaved(calls: dict[Any, Callable[[], Any]], rounds: int) -> dict[Any, list[float]]:
    """Seconds of each call in each round, after ten to warm up."""
    times: dict[Any, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 10):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if number >= 10:
                times[name].append(time.perf_counter() - started)
    return times


if __name__ == "__main__":
    main()
