"""``recommend``: lists of items for histories, from a bundle."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from recbole_fofa.errors import ConfigError
from recbole_fofa.subcommands.lines import read_lines
from recbole_fofa.subcommands.numbers import positive
from recbole_fofa.subcommands.shards import add_shard, chosen_shard, shard_path


def main(argv: Sequence[str]) -> int:
    """Run ``recommend``; returns the exit code."""
    arguments = _parser().parse_args(argv)
    if arguments.histories is not None and arguments.output is None:
        raise ConfigError("--histories needs --output, the file of the lists")
    if arguments.history is not None and (arguments.output or arguments.shard):
        raise ConfigError("--output and --shard are for --histories; a --history's list is printed")
    from recbole_fofa.serving.many import Shard, recommend_many
    from recbole_fofa.serving.recommend import load

    if arguments.threads:
        import torch

        torch.set_num_threads(arguments.threads)
    options: dict[str, Any] = {"profile": arguments.profile}
    if arguments.candidates is not None:
        options["candidates"] = _candidates(arguments.candidates)
    if arguments.mask_history:
        options["mask_history"] = True
    recommender = load(arguments.bundle, device=arguments.device)
    if "candidates" in options:
        n_items = len(recommender.vocabulary.history(options["candidates"]).items)
        if n_items == 0:
            raise ConfigError(
                f"--candidates {arguments.candidates}: no line is an item that the model knows"
            )
    if arguments.histories is None:
        history = arguments.history.replace(",", " ").split()
        _show(recommender.recommend([history], arguments.k, **options)[0])
        return 0
    shard = chosen_shard(arguments.shard)
    target = shard_path(arguments.output, shard)
    totals = recommend_many(
        recommender,
        arguments.histories,
        target,
        arguments.k,
        shard=Shard(*shard),
        show_progress=not arguments.quiet,
        **options,
    )
    sys.stdout.write(f"{target}: {totals.words()}\n")
    return 0


def _show(found: Any) -> None:
    structure = f", structure {found.structure}" if found.structure else ""
    sys.stdout.write(f"by {found.source}{structure}, {found.n_unknown} unknown items left out\n")
    for place, (item, score) in enumerate(zip(found.items, found.scores, strict=True), start=1):
        sys.stdout.write(f"{place:3d}  {item}  {score:.4f}\n")


def _candidates(path: str) -> list[str]:
    found = [line.strip() for line in read_lines("--candidates", path)]
    if not found:
        raise ConfigError(f"--candidates {path} names no item: write one a line")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_recbole_fofa recommend",
        description="The best items for a history, or for each line of a file of histories. Users "
        "need not be known; the data set is not needed.",
    )
    parser.add_argument("--bundle", required=True, help="a bundle, or the output folder of a run")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--history", help="item tokens, oldest first, with blanks or commas")
    what.add_argument(
        "--histories",
        help="file with a history a line: .jsonl (a list, or user and history), or text (tokens "
        "with blanks, after user and tab if wanted)",
    )
    parser.add_argument("--output", help="file of the lists, JSON lines; resumed if interrupted")
    parser.add_argument("-k", type=positive, default=10, help="length of a list (10)")
    parser.add_argument("--profile", help="device class whose limits hold")
    parser.add_argument("--candidates", help="file of what may be recommended, an item a line")
    parser.add_argument("--mask_history", action="store_true", help="no item of the history")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    parser.add_argument("--threads", type=positive, help="CPU threads of torch")
    add_shard(parser, "lines")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    return parser
