"""To adapt in one forward pass, against fine-tuning the same network on the device.

For users with full histories: the device's uplink (numpy), the cloud's payload, its application;
beside it one epoch of Adam on all tensors of the user's assembled network, with the softmax over
all items. "prefixes" has one row for each prefix of the user's history, 32 in a batch, as RecBole
and DUET train; "sequence" is the least that one could do: one step on the whole history, with a
loss at every position. Each way runs in a process of its own, in turns, on one thread; peak memory
is what the process takes beyond what it had when everything was loaded.

    python benchmarks/adaptation.py
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from record import append_line, provenance
from threadpoolctl import threadpool_limits
from torch.nn import functional as F
from training import item_tokens

from recbole_fofa.cloud.service import CloudService
from recbole_fofa.device.payload import block_parameters
from recbole_fofa.device.runtime import DeviceRuntime
from recbole_fofa.device_profile import DeviceProfile
from recbole_fofa.model.assembled import AssembledNetwork
from recbole_fofa.quick_start import build_model, checked_config, prepare_data

LENGTH = 50
WAYS = ("forward adaptation", "fine-tuning, prefixes", "fine-tuning, sequence")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help="measure one way in this process, print it")
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(measure(arguments.way, arguments.users)))
        return
    origin = provenance(1)
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--users", str(arguments.users)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
    seconds = {
        way: float(np.median([row["seconds"] for row in rows])) for way, rows in found.items()
    }
    for way, rows in found.items():
        line = {
            "way": way,
            "dataset": "ml-100k",
            "history": LENGTH,
            "users": arguments.users,
            "seconds_per_user": round(seconds[way], 6),
            "ratio_to_forward": round(seconds[way] / seconds[WAYS[0]], 1),
            "peak_memory_bytes": int(np.median([row["peak_memory_bytes"] for row in rows])),
        }
        append_line("adaptation", line | origin)
        print(way, line["seconds_per_user"], line["ratio_to_forward"], line["peak_memory_bytes"])


def measure(way: str, n_users: int) -> dict[str, float]:
    """Median seconds a user, and bytes beyond what the loaded process had."""
    torch.set_num_threads(1)
    config = checked_config(config_dict={"quiet": True})
    train, *_ = prepare_data(config)
    torch.manual_seed(1)
    model = build_model(config, train).eval()
    tokens = item_tokens(train)
    rows = histories(train, n_users)
    with threadpool_limits(1):
        call = CALLS[way](model, tokens)
        call(rows[0][-3:])  # loads what is loaded once: libraries, kernels
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times = []
        for row in rows:
            started = time.perf_counter()
            call(row)
            times.append(time.perf_counter() - started)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": float(np.median(times)), "peak_memory_bytes": 1024.0 * grown}


def histories(loader: Any, n_users: int) -> list[list[int]]:
    """The newest items of the first users who have enough of them."""
    flat = loader._dataset.histories
    ends = np.flatnonzero(np.r_[flat.users[1:] != flat.users[:-1], True]) + 1
    long = [end for end in ends if end - flat.starts[end - 1] > LENGTH]
    return [flat.items[end - LENGTH : end].tolist() for end in long[:n_users]]


def forward(model: Any, tokens: list[str]) -> Callable[[list[int]], None]:
    """Both sides of a session's start."""
    cloud = CloudService(model, tokens)
    device = DeviceRuntime(cloud.enroll(DeviceProfile(name="all")))

    def adapt(row: list[int]) -> None:
        message = device.uplink([tokens[item] for item in row]).to_bytes()
        device.apply(cloud.handle(message))

    return adapt


def network_of(model: Any, tokens: list[str], row: list[int]) -> AssembledNetwork:
    """The user's network with all blocks, which is what fine-tuning starts from."""
    cloud = CloudService(model, tokens)
    device = DeviceRuntime(cloud.enroll(DeviceProfile(name="all")))
    device.apply(cloud.handle(device.uplink([tokens[item] for item in row]).to_bytes()))
    assert device.payload is not None
    own = block_parameters(device.bundle, device.payload)
    kept = np.flatnonzero(device.payload.structure).tolist()
    tensors = [{name: torch.from_numpy(v) for name, v in block.items()} for block in own]
    return AssembledNetwork(model.network.backbone, kept, tensors)


def fine_tuning(model: Any, tokens: list[str], batches: Any) -> Callable[[list[int]], None]:
    """One epoch over a user's batches."""
    flat = torch.arange(1, LENGTH + 1).tolist()
    network = network_of(model, tokens, flat)
    table = model.item_embedding.weight.detach()
    start = {name: value.clone() for name, value in network.block_parameters.state_dict().items()}

    def epoch(row: list[int]) -> None:
        network.block_parameters.load_state_dict(start)
        optimizer = torch.optim.Adam(network.block_parameters.parameters(), lr=0.001)
        for item_seq, lengths, targets in batches(row):
            optimizer.zero_grad()
            x = network.backbone.embed(table[item_seq])
            for index, own in zip(network.kept, network.block_parameters, strict=True):
                x = network.backbone.apply_block(index, x, dict(own.named_parameters()))
            hidden = network.backbone.finish(x)
            chosen = hidden[0] if lengths is None else hidden[torch.arange(len(x)), lengths - 1]
            F.cross_entropy(chosen @ table.T, targets).backward()
            optimizer.step()

    return epoch


def prefixes(row: list[int]) -> Any:
    """Rows of (padded prefix, its length, its next item), 32 at a time, shuffled."""
    places = 1 + torch.randperm(len(row) - 1)
    for chosen in places.split(32):
        padded = torch.zeros(len(chosen), LENGTH, dtype=torch.long)
        for line, place in enumerate(chosen.tolist()):
            padded[line, :place] = torch.tensor(row[:place])
        yield padded, chosen, torch.tensor(row)[chosen]


def sequence(row: list[int]) -> Any:
    """The history but for its last item, and the next item at every position."""
    yield torch.tensor([row[:-1]]), None, torch.tensor(row[1:])


CALLS: dict[str, Callable[[Any, list[str]], Callable[[list[int]], None]]] = {
    "forward adaptation": forward,
    "fine-tuning, prefixes": lambda model, tokens: fine_tuning(model, tokens, prefixes),
    "fine-tuning, sequence": lambda model, tokens: fine_tuning(model, tokens, sequence),
}

if __name__ == "__main__":
    main()
