"""Exported files against the model they came from: parity, sizes, latency of a request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_fofa.cloud.assemble import device_limits
from recbole_fofa.cloud.export import BUNDLE, MANIFEST
from recbole_fofa.cloud.population import Population
from recbole_fofa.device.bundle import BaseBundle
from recbole_fofa.device.runtime import DeviceRuntime, Engine, NumpyEngine
from recbole_fofa.recommender.forward_ofa import ForwardOFA
from recbole_fofa.whole_file import write_whole

REPORT = "report.json"
N_REQUESTS = 50


def check_files(model: ForwardOFA, people: Population, folder: Path, n_users: int) -> Path:
    """Write ``report.json``: what the files of the first users give on a device.

    For each engine the largest difference of a score from the cloud's for all items, relative to
    the largest score of the user (what fp16 and int8 round is in it), the share of the users'
    ten best items that both have, and p50 and p95 of a request's milliseconds.

    Args:
        model: The model that was exported.
        people: Who was exported.
        folder: Where to.
        n_users: How many of them to check.

    Returns:
        The report's path.
    """
    bundle = BaseBundle.from_bytes((folder / BUNDLE).read_bytes())
    lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()[:n_users]
    users = [json.loads(line) for line in lines]
    cloud = [_cloud_scores(model, bundle, people, row) for row in range(len(users))]
    report: dict[str, Any] = {
        "profile": bundle.info.profile,
        "precision": bundle.info.precision,
        "users": len(users),
        "bundle_bytes": (folder / BUNDLE).stat().st_size,
        "mean_payload_bytes": float(np.mean([line["payload_bytes"] for line in users])),
        "uplink_bytes": users[0]["uplink_bytes"],
        **_mean_graph(users),
        "engines": {},
    }
    for name, engine_of in _engines(bundle, folder, users).items():
        found, times = [], []
        for row, line in enumerate(users):
            device = DeviceRuntime(bundle, engine_of(line))
            device.apply((folder / line["file"]).read_bytes())
            scores, seconds = _timed(device, _history(people, row), people.item_tokens[1:])
            found.append(scores)
            times += seconds
        report["engines"][name] = {
            **_agreement(found, cloud),
            "p50_ms": round(1000 * float(np.percentile(times, 50)), 4),
            "p95_ms": round(1000 * float(np.percentile(times, 95)), 4),
        }
    write_whole(folder / REPORT, (json.dumps(report, indent=2) + "\n").encode())
    return folder / REPORT


def _mean_graph(users: list[dict[str, Any]]) -> dict[str, float]:
    sizes = [line["onnx_bytes"] for line in users if "onnx_bytes" in line]
    return {"mean_onnx_bytes": float(np.mean(sizes))} if sizes else {}


def _engines(
    bundle: BaseBundle, folder: Path, users: list[dict[str, Any]]
) -> dict[str, Callable[[dict[str, Any]], Engine]]:
    """By name, what runs the network of the user of a manifest line."""
    in_numpy = NumpyEngine(bundle)
    engines: dict[str, Callable[[dict[str, Any]], Engine]] = {"numpy": lambda line: in_numpy}
    if list(folder.glob("network-*.onnx")):
        from recbole_fofa.device.onnx_engine import OnnxEngine

        in_onnx = OnnxEngine.from_folder(bundle, folder)
        engines["onnxruntime"] = lambda line: in_onnx
    if "onnx" in users[0]:
        from recbole_fofa.device.onnx_engine import StandaloneEngine

        engines["standalone"] = lambda line: StandaloneEngine((folder / line["onnx"]).read_bytes())
    return engines


def _history(people: Population, row: int) -> list[str]:
    ids = people.histories.items[people.begins[row] : people.ends[row]]
    return [people.item_tokens[item] for item in ids]


@torch.no_grad()
def _cloud_scores(
    model: ForwardOFA, bundle: BaseBundle, people: Population, row: int
) -> np.ndarray:
    """Scores of all items for the user's newest items, by the model itself."""
    info, device = bundle.info, model.device
    ids = torch.from_numpy(people.histories.items[people.begins[row] : people.ends[row]])
    behaviour, item_seq = ids[-info.adapt_length :], ids[-info.max_length :]
    adaptation = model.adapt(
        behaviour.unsqueeze(0).to(device),
        torch.tensor([len(behaviour)], device=device),
        *device_limits(info, 1, device),
    )
    hidden = model.encode(item_seq.unsqueeze(0).to(device), adaptation)[0, -1]
    scores: np.ndarray = (model.item_embedding.weight[1:] @ hidden).cpu().numpy()
    return scores


def _timed(
    device: DeviceRuntime, history: list[str], candidates: list[str]
) -> tuple[np.ndarray, list[float]]:
    """Scores, and the seconds of each of some requests."""
    scores = device.score(history, candidates)
    times = []
    for _ in range(N_REQUESTS):
        started = time.perf_counter()
        device.score(history, candidates)
        times.append(time.perf_counter() - started)
    return scores, times


def _agreement(found: list[np.ndarray], cloud: list[np.ndarray]) -> dict[str, float]:
    differences, overlaps = [], []
    for ours, theirs in zip(found, cloud, strict=True):
        differences.append(float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
        k = min(10, len(theirs))
        best = [set(np.argsort(-scores, kind="stable")[:k].tolist()) for scores in (ours, theirs)]
        overlaps.append(len(best[0] & best[1]) / k)
    return {
        "largest_relative_difference": max(differences),
        "same_top_10": float(np.mean(overlaps)),
    }
