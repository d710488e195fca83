"""To adapt in one forward pass, against fine-tuning the same network on the device.

For users drawn at random: the device's uplink (numpy), the cloud's payload, its application;
beside it one epoch over the user's history of Adam on all tensors of the user's own network, with
the softmax over all items. "prefixes" has one row for each prefix, 32 in a batch, as RecBole and
DUET train; "windows" is the least that one could do: one step on all windows of 50 items at once,
with a loss at every position. Each way runs in a process of its own, in turns, on one thread; peak
memory is what the process takes beyond what it had when everything was loaded.

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

from recbole_fofa.cloud.assemble import assemble, assembled_network
from recbole_fofa.cloud.population import item_tokens
from recbole_fofa.cloud.service import CloudService
from recbole_fofa.device.runtime import DeviceRuntime
from recbole_fofa.device_profile import DeviceProfile
from recbole_fofa.model.assembled import AssembledNetwork
from recbole_fofa.quick_start import build_model, checked_config, prepare_data

LENGTH = 50
WAYS = ("forward adaptation", "fine-tuning, prefixes", "fine-tuning, windows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=100)
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
            "users": arguments.users,
            "mean_history": rows[0]["mean_history"],
            "seconds_per_user": round(seconds[way], 6),
            "ratio_to_forward": round(seconds[way] / seconds[WAYS[0]], 1),
            "peak_memory_bytes": int(np.median([row["peak_memory_bytes"] for row in rows])),
        }
        append_line("adaptation", line | origin)
        print(way, line["seconds_per_user"], line["ratio_to_forward"], line["peak_memory_bytes"])


def measure(way: str, n_users: int) -> dict[str, float]:
    """Mean seconds a user, and bytes beyond what the loaded process had."""
    torch.set_num_threads(1)
    config = checked_config(config_dict={"quiet": True})
    train, *_ = prepare_data(config)
    torch.manual_seed(1)
    model = build_model(config, train).eval()
    tokens = item_tokens(train._dataset)
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
    return {
        "seconds": float(np.mean(times)),
        "peak_memory_bytes": 1024.0 * grown,
        "mean_history": float(np.mean([len(row) for row in rows])),
    }


def histories(loader: Any, n_users: int) -> list[list[int]]:
    """Whole histories of users, the same in every process."""
    flat = loader._dataset.histories
    ends = np.flatnonzero(np.r_[flat.users[1:] != flat.users[:-1], True]) + 1
    chosen = np.random.default_rng(0).choice(ends, n_users, replace=False)
    return [flat.items[flat.starts[end - 1] : end].tolist() for end in chosen]


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
    every = (1,) * len(device.bundle.info.blocks)
    interest = torch.from_numpy(device.uplink([tokens[item] for item in row]).interest)
    payload = assemble(model, device.bundle.info, every, interest)
    return assembled_network(model, device.bundle, payload)


def fine_tuning(model: Any, tokens: list[str], batches: Any) -> Callable[[list[int]], None]:
    """One epoch over a user's batches."""
    flat = torch.arange(1, LENGTH + 1).tolist()
    network = network_of(model, tokens, flat)
    table = model.item_embedding.weight.detach()
    start = {name: value.clone() for name, value in network.block_parameters.state_dict().items()}

    def epoch(row: list[int]) -> None:
        network.block_parameters.load_state_dict(start)
        optimizer = torch.optim.Adam(network.block_parameters.parameters(), lr=0.001)
        for item_seq, places, targets in batches(row):
            optimizer.zero_grad()
            hidden = network.hidden(table[item_seq])[places]
            F.cross_entropy(hidden @ table.T, targets).backward()
            optimizer.step()

    return epoch


def prefixes(row: list[int]) -> Any:
    """Newest items of each prefix, their last place, the next item: 32 rows at a time, shuffled."""
    for chosen in (1 + torch.randperm(len(row) - 1)).split(32):
        parts = [row[max(0, place - LENGTH) : place] for place in chosen.tolist()]
        last = torch.tensor([len(part) - 1 for part in parts])
        yield padded(parts), (torch.arange(len(parts)), last), torch.tensor(row)[chosen]


def windows(row: list[int]) -> Any:
    """All windows of the history in one batch, and the next item at every place."""
    parts = [row[begin : begin + LENGTH + 1] for begin in range(0, len(row) - 1, LENGTH)]
    item_seq = padded([part[:-1] for part in parts])
    yield item_seq, item_seq > 0, torch.tensor([item for part in parts for item in part[1:]])


def padded(parts: list[list[int]]) -> torch.Tensor:
    """On the right, to the full input length."""
    return torch.tensor([part + [0] * (LENGTH - len(part)) for part in parts])


CALLS: dict[str, Callable[[Any, list[str]], Callable[[list[int]], None]]] = {
    "forward adaptation": forward,
    "fine-tuning, prefixes": lambda model, tokens: fine_tuning(model, tokens, prefixes),
    "fine-tuning, windows": lambda model, tokens: fine_tuning(model, tokens, windows),
}

if __name__ == "__main__":
    main()
