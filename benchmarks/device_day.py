"""A day of real ml-100k users on their devices, and what crossed the network.

Trains briefly (or reads a checkpoint), enrolls the shipped device classes, and plays the sessions
of the busiest day of the data: a device adapts when a session begins (a pause of half an hour ends
one), then recommends from its own network before each click. All between device and cloud are
messages of bytes. It shows traffic, not accuracy: nearly all of that day's clicks were trained on.

    python benchmarks/device_day.py --epochs 3
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from training import trained

from recbole_fofa.cloud.population import item_tokens
from recbole_fofa.cloud.service import CloudService
from recbole_fofa.device.payload import structure_text
from recbole_fofa.device.runtime import DeviceRuntime
from recbole_fofa.device.session import DeviceSession
from recbole_fofa.device_profile import load_profile, shipped_profiles
from recbole_fofa.quick_start import load_data_and_model

DAY, PAUSE = 86_400, 1_800


@dataclass
class Tally:
    """What happened on the devices of one class."""

    users: int = 0
    sessions: int = 0
    requests: int = 0
    hits: int = 0
    sent: int = 0
    received: int = 0
    bundle: int = 0
    structures: Counter[str] = field(default_factory=Counter)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", help="a .pth of ForwardOFA; trained here if not given")
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.checkpoint:
        _, model, _, loader, *_ = load_data_and_model(arguments.checkpoint)
    else:
        trainer, *_, loader = trained(1, epochs=arguments.epochs, budget_aware=True)
        model = trainer.model
    tokens = item_tokens(loader._dataset)
    cloud = CloudService(model, tokens)
    bundles = {name: cloud.enroll(load_profile(name)) for name in shipped_profiles()}
    tallies = {name: Tally(bundle=len(data)) for name, data in bundles.items()}
    day, players = busiest_day(loader._dataset.histories)
    for number, (begin, first, end) in enumerate(players):
        name = list(bundles)[number % len(bundles)]
        device = DeviceSession(DeviceRuntime(bundles[name]), cloud.handle)
        play(device, tallies[name], loader._dataset.histories, tokens, begin, first, end)
    print(f"{len(players)} users on {np.datetime64(day * DAY, 's').astype('datetime64[D]')}")
    print(table(tallies))


def busiest_day(histories: Any) -> tuple[int, list[tuple[int, int, int]]]:
    """The day, and of each of its users the places of the first item, of the day's, and its end."""
    days = (histories.times // DAY).astype(int)
    day = Counter(days.tolist()).most_common(1)[0][0]
    places = np.flatnonzero(days == day)
    users = {int(histories.users[place]): place for place in places[::-1]}
    ends = {int(histories.users[place]): place + 1 for place in places}
    return day, [
        (int(histories.starts[first]), int(first), int(ends[user]))
        for user, first in sorted(users.items())
    ]


def play(
    device: DeviceSession,
    tally: Tally,
    histories: Any,
    tokens: list[str],
    begin: int,
    first: int,
    end: int,
) -> None:
    """One user's day: each item after the first is asked for before it is clicked."""
    past = [tokens[item] for item in histories.items[begin:end]]
    last_time = -np.inf
    for place in range(max(first, begin + 1), end):
        known = past[: place - begin]
        if histories.times[place] - last_time > PAUSE:
            structure = device.begin(known)
            tally.structures[structure_text(structure)] += 1
        last_time = histories.times[place]
        tally.hits += past[place - begin] in device.recommend(known, tokens[1:], 10)
    tally.users += 1
    tally.sessions += device.sessions
    tally.requests += device.requests
    tally.sent += device.sent
    tally.received += device.received


def table(tallies: dict[str, Tally]) -> str:
    """One row for each device class."""
    rows = [
        {
            "class": name,
            "users": tally.users,
            "sessions": tally.sessions,
            "requests": tally.requests,
            "up, bytes a session": round(tally.sent / max(tally.sessions, 1)),
            "down, bytes a session": round(tally.received / max(tally.sessions, 1)),
            "bundle, once": tally.bundle,
            "hit@10, mostly seen in training": round(tally.hits / max(tally.requests, 1), 4),
            "structures": ", ".join(f"{k}: {v}" for k, v in tally.structures.most_common(3)),
        }
        for name, tally in tallies.items()
    ]
    return tabulate(rows, headers="keys", tablefmt="github")


if __name__ == "__main__":
    main()
