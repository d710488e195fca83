"""Files for many devices: one bundle, a payload for each user, a manifest; resumable."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from recbole_fofa.cloud.assemble import assemble, device_limits, make_bundle
from recbole_fofa.cloud.cost import request_macs
from recbole_fofa.cloud.population import People
from recbole_fofa.data.sequences import IntArray, padded
from recbole_fofa.device.bundle import BaseBundle
from recbole_fofa.device.bundle_info import BundleInfo
from recbole_fofa.device.payload import DevicePayload, Structure, structure_text
from recbole_fofa.device.uplink import uplink_size
from recbole_fofa.device_profile import DeviceProfile
from recbole_fofa.errors import ConfigError
from recbole_fofa.recommender.forward_ofa import ForwardOFA
from recbole_fofa.whole_file import flush_all, held, names_the_file, write_whole

CHUNK = 256
"""Users adapted at once. Never cut otherwise: the last digits depend on who is in a batch."""
SETTINGS, MANIFEST, BUNDLE = "export.json", "manifest.jsonl", "base.safetensors"
_LONGEST_NAME = 120


def export(
    model: ForwardOFA,
    people: People,
    profile: DeviceProfile,
    output_dir: str | Path,
    *,
    places: range | None = None,
    form: Literal["payload", "onnx", "standalone"] = "payload",
    show_progress: bool = False,
) -> Path:
    """Write what the devices of a profile need; continues what was interrupted.

    ``base.safetensors`` is the bundle, ``users/*.safetensors`` are payloads, ``manifest.jsonl`` has
    a line for each user: file, structure, payload bytes, MACs of a request, uplink bytes. With
    ``onnx``, ``network-<k>.onnx`` are the graphs of each number of kept blocks; with
    ``standalone``, ``users/*.onnx`` are the users' own, weights included. Files are written under
    a temporary name and renamed. Users' files, thousands of them, are put on the disk all at once
    at the end; what a power cut takes before that is found by its size and written again.

    People are read in chunks, and nothing is kept of them: memory does not grow with their number.

    Args:
        model: The trained model.
        people: Who.
        profile: Device class.
        output_dir: Folder; new, or that of an export with the same arguments.
        places: Of the users that are exported; all if not given.
        form: See above.
        show_progress: Whether a bar is shown.

    Returns:
        The manifest's path.

    Raises:
        ConfigError: If the folder holds another export, or nothing fits the profile.
        OutputError: If a file cannot be written, or another process writes to the folder; the
            export can be continued.
    """
    model.eval()
    folder = Path(output_dir)
    places = range(len(people)) if places is None else places
    bundle = make_bundle(model, profile, people.item_tokens)
    try:
        (folder / "users").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder} (--output_dir): {error}") from None
    with held(folder):
        _begin(folder, bundle, people, places, form)
        write_whole(folder / BUNDLE, bundle.to_bytes())
        if form == "onnx":
            _write_graphs(folder, bundle)
        bar = tqdm(total=len(places), desc="export", unit="user", disable=not show_progress)
        with bar:
            _write_users(model, people, folder, bundle, places, form, bar)
        flush_all()
    return folder / MANIFEST


def _write_users(
    model: ForwardOFA,
    people: People,
    folder: Path,
    bundle: BaseBundle,
    places: range,
    form: str,
    bar: Any,
) -> None:
    """A payload and a line for each, from the first that is not there yet."""
    manifest = folder / MANIFEST
    n_done = _keep_finished_lines(manifest, (user for user, _ in people.read(places)))
    bar.update(n_done)
    begun = n_done // CHUNK * CHUNK
    payloads = _payloads(model, bundle, people.read(places[begun:]))
    with names_the_file(manifest), manifest.open("a", encoding="utf-8") as lines:
        for line, data in islice(payloads, n_done - begun, None):
            write_whole(folder / line["file"], data, durable=False)
            if form == "standalone":
                line |= _write_own_graph(folder / line["file"], bundle, data)
            lines.write(json.dumps(line) + "\n")
            lines.flush()
            bar.update()


def file_of(user: str) -> str:
    """A payload's path below the folder; differs for any two users on every file system.

    Numbers (with one letter before them) and hashes stay as they are; all else gets a piece of its
    hash behind it, since some systems know no upper case and reserve names such as ``con``.
    """
    if re.fullmatch(r"[a-z]?[0-9]{1,32}|[0-9a-f-]{16,64}", user):
        return f"users/{user}.safetensors"
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", user)[:_LONGEST_NAME]
    return f"users/{readable}~{hashlib.sha256(user.encode()).hexdigest()[:16]}.safetensors"


def _begin(folder: Path, bundle: BaseBundle, people: People, places: range, form: str) -> None:
    """Note what is exported, or see that the folder holds the same."""
    info = bundle.info
    settings = {
        "base": info.base,
        "profile": info.profile,
        "payload": info.payload_form,
        "precision": info.precision,
        "allowed_structures": info.allowed,
        "format": form,
        "users": len(people),
        "part": [places.start, places.stop],
        "histories": people.digest(),
    }
    path = folder / SETTINGS
    if path.exists():
        found = _read_settings(path)
        differing = [key for key in settings if found.get(key) != settings[key]]
        if differing:
            raise ConfigError(
                f"{folder} holds another export ({', '.join(differing)} differ): choose another "
                "--output_dir, or remove it"
            )
    elif (folder / MANIFEST).exists():
        raise ConfigError(
            f"{folder} has a {MANIFEST} but no {SETTINGS}: choose another --output_dir"
        )
    else:
        write_whole(path, (json.dumps(settings, indent=2) + "\n").encode())


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    return found if isinstance(found, dict) else {}


def _keep_finished_lines(manifest: Path, users: Iterator[str]) -> int:
    """Number of users whose files are whole; lines from the first other one on are cut off."""
    if not manifest.exists():
        return 0
    n_kept = size_kept = 0
    with names_the_file(manifest), manifest.open("rb+") as file:
        for text in file:
            user = next(users, None)
            if not text.endswith(b"\n") or not _is_whole(manifest.parent, text, user):
                break
            n_kept += 1
            size_kept += len(text)
        file.truncate(size_kept)
    return n_kept


def _is_whole(folder: Path, text: bytes, user: str | None) -> bool:
    """Whether a manifest line is a user's, and its files are there, in the sizes that it says."""
    try:
        line = json.loads(text)
        sizes = [(line["file"], line["payload_bytes"])]
        sizes += [(line["onnx"], line["onnx_bytes"])] if "onnx" in line else []
        return line["user"] == user and all(
            (folder / name).stat().st_size == size for name, size in sizes
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_graphs(folder: Path, bundle: BaseBundle) -> None:
    # Imported here: payloads alone do not need the extra.
    from recbole_fofa.cloud.onnx_graph import make_graph
    from recbole_fofa.device.onnx_engine import CHECKSUMS

    checksums: dict[str, str] = {}
    for n_kept in sorted({code.bit_count() for code in bundle.info.allowed}):
        data = make_graph(bundle, n_kept)
        write_whole(folder / f"network-{n_kept}.onnx", data)
        checksums[str(n_kept)] = hashlib.sha256(data).hexdigest()
    write_whole(folder / CHECKSUMS, (json.dumps(checksums, indent=2) + "\n").encode())


def _write_own_graph(payload_file: Path, bundle: BaseBundle, data: bytes) -> dict[str, Any]:
    """Of the payload as the device reads it, so that it rounds alike; returns manifest entries."""
    from recbole_fofa.cloud.onnx_graph import make_standalone_graph

    graph = make_standalone_graph(bundle, DevicePayload.from_bytes(data, bundle.info))
    path = payload_file.with_suffix(".onnx")
    write_whole(path, graph, durable=False)
    return {"onnx": f"{path.parent.name}/{path.name}", "onnx_bytes": len(graph)}


def _payloads(
    model: ForwardOFA, bundle: BaseBundle, people: Iterable[tuple[str, IntArray]]
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Manifest line and file of each user, adapted in chunks from the newest items."""
    info = bundle.info
    people = iter(people)
    while chunk := list(islice(people, CHUNK)):
        behaviour, lengths = padded([items[-info.adapt_length :] for _, items in chunk])
        with torch.no_grad():
            decision = model.decide(
                behaviour.to(model.device),
                lengths.to(model.device),
                *device_limits(info, len(chunk), model.device),
            )
        structures = [tuple(row) for row in decision.structure.int().tolist()]
        for row, ((user, _), structure) in enumerate(zip(chunk, structures, strict=True)):
            interest = decision.interest[row] if decision.interest is not None else None
            data = assemble(model, info, structure, interest).to_bytes(info)
            yield _manifest_line(model, info, user, structure, data), data


def _manifest_line(
    model: ForwardOFA, info: BundleInfo, user: str, structure: Structure, data: bytes
) -> dict[str, Any]:
    return {
        "user": user,
        "file": file_of(user),
        "structure": structure_text(structure),
        "payload_bytes": len(data),
        "macs": request_macs(model.network, info.max_length, structure),
        "uplink_bytes": uplink_size(info, model.settings.hidden_size),
    }
