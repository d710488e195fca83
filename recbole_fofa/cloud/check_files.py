"""Exported files against the model they came from: parity, sizes, latency of a request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_fofa.cloud.assemble import device_limits
from recbole_fofa.cloud.export import BUNDLE, MANIFEST
from recbole_fofa.cloud.population import People
from recbole_fofa.data.sequences import IntArray, padded
from recbole_fofa.device.bundle import BaseBundle
from recbole_fofa.device.runtime import DeviceRuntime, Engine, NumpyEngine
from recbole_fofa.errors import ConfigError
from recbole_fofa.model.repeats import Repeats
from recbole_fofa.recommender.forward_ofa import ForwardOFA
from recbole_fofa.whole_file import write_whole

REPORT = "report.json"
N_REQUESTS = 50


def need_items(people: People, places: range) -> None:
    """Whether there is anybody to report on: without an item a device scores nothing.

    Raises:
        ConfigError: If not.
    """
    if not any(len(items) for _, items in people.read(places)):
        raise ConfigError(
            f"none of {len(places)} users has an item that the model knows, so that no request can "
            "be checked: leave --report out, or give histories of the model's items"
        )


def check_files(
    model: ForwardOFA, people: People, places: range, folder: Path, n_users: int
) -> Path:
    """Write ``report.json``: what the files of the first users with an item give on a device.

    For each engine the largest difference of a score from the cloud's for all items, relative to
    the largest score of the user (what fp16 and int8 round is in it), the share of the users'
    ten best items that both have, and p50 and p95 of a request's milliseconds.

    Args:
        model: The model that was exported.
        people: Of whom there are files.
        places: Which of them; see :func:`need_items`.
        folder: Where to.
        n_users: How many of them to check.

    Returns:
        The report's path.
    """
    bundle = BaseBundle.from_bytes((folder / BUNDLE).read_bytes())
    chosen = list(islice(_lines_and_items(folder / MANIFEST, people, places), n_users))
    users = [line for line, _ in chosen]
    cloud = [_cloud_scores(model, bundle, items) for _, items in chosen]
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
        for line, items in chosen:
            device = DeviceRuntime(bundle, engine_of(line))
            device.apply((folder / line["file"]).read_bytes())
            history = [people.item_tokens[item] for item in items]
            scores, seconds = _timed(device, history, people.item_tokens[1:])
            found.append(scores)
            times += seconds
        report["engines"][name] = {
            **_agreement(found, cloud),
            "p50_ms": round(1000 * float(np.percentile(times, 50)), 4),
            "p95_ms": round(1000 * float(np.percentile(times, 95)), 4),
        }
    write_whole(folder / REPORT, (json.dumps(report, indent=2) + "\n").encode())
    return folder / REPORT


def _lines_and_items(
    manifest: Path, people: People, places: range
) -> Iterator[tuple[dict[str, Any], IntArray]]:
    """Manifest line and items of each user who has any."""
    with manifest.open(encoding="utf-8") as lines:
        for line, (_, items) in zip(lines, people.read(places), strict=True):
            if len(items):
                yield json.loads(line), items


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


@torch.no_grad()
def _cloud_scores(model: ForwardOFA, bundle: BaseBundle, items: IntArray) -> np.ndarray:
    """Scores of all items for the user's newest items, by the model itself."""
    info, device = bundle.info, model.device
    behaviour, lengths = padded([items[-info.adapt_length :]])
    adaptation = model.adapt(
        behaviour.to(device), lengths.to(device), *device_limits(info, 1, device)
    )
    item_seq, _ = padded([items[-info.max_length :]])
    hidden = model.encode(item_seq.to(device), adaptation)[:, -1]
    scores = hidden @ model.item_embedding.weight.T
    if adaptation.repeat_bias is not None:
        seen, _ = padded([items[-info.seen_length :]])
        scores = Repeats.of(seen.to(device), adaptation.repeat_bias).added_to(scores)
    found: np.ndarray = scores[0, 1:].cpu().numpy()
    return found


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
