"""Parts of bulk work: each process does its own, and they need not talk to each other."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

Shard = tuple[int, int]
"""Number, counted from 0, and how many there are."""


def add_shard(parser: argparse.ArgumentParser, of_what: str) -> None:
    """The option ``--shard``."""
    parser.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help=f"only the I-th of N parts of the {of_what} (under torchrun: one for each process)",
    )


def chosen_shard(given: Shard | None) -> Shard:
    """The given one, or the place among the processes of torch's launcher, or all."""
    rank, world_size = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    # One of the two alone is no launcher's.
    launched = (int(rank), int(world_size)) if rank.isdigit() and world_size.isdigit() else (0, 1)
    return launched if given is None else given


def shard_path(path: str | Path, shard: Shard) -> Path:
    """The path itself of a single part; else with its number, ``lists-00002-of-00008.jsonl``."""
    number, of = shard
    if of == 1:
        return Path(path)
    path = Path(os.path.abspath(path)) if Path(path).name in ("", "..") else Path(path)
    return path.with_name(f"{path.stem}-{number + 1:05d}-of-{of:05d}{path.suffix}")


def _shard(text: str) -> Shard:
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part such as 2/8")
    return int(number) - 1, int(count)
