"""Data on which half of the users need depth and half do not."""

from __future__ import annotations

import random
from pathlib import Path

N_ITEMS, NOISE = 8, 0.2


def write_two_kinds(folder: Path, n_users: int = 200, length: int = 24, seed: int = 0) -> Path:
    """Even users walk a ring; odd users' next item is a random function of their last two.

    Both now and then take any item of their kind, so that no walk ends in a short cycle. The
    kinds share no item.
    """
    folder = folder / "two_kinds"
    folder.mkdir(parents=True)
    source = random.Random(seed)
    table = [[source.randrange(N_ITEMS) for _ in range(N_ITEMS)] for _ in range(N_ITEMS)]
    rows = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(n_users):
        walk = [source.randrange(N_ITEMS), source.randrange(N_ITEMS)]
        while len(walk) < length:
            if source.random() < NOISE:
                walk.append(source.randrange(N_ITEMS))
            elif user % 2:
                walk.append(table[walk[-2]][walk[-1]])
            else:
                walk.append((walk[-1] + 3) % N_ITEMS)
        kind = "deep" if user % 2 else "flat"
        rows += [f"{kind}{user}\t{kind}{item}\t{step}" for step, item in enumerate(walk)]
    path = folder / "two_kinds.inter"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path
