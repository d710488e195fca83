"""``export``: files for devices, from a checkpoint or from a bundle and a file of histories."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_fofa.device_profile import load_profile, shipped_profiles
from recbole_fofa.errors import ConfigError
from recbole_fofa.subcommands.lines import read_lines
from recbole_fofa.subcommands.numbers import positive
from recbole_fofa.subcommands.shards import add_shard, chosen_shard, shard_path

if TYPE_CHECKING:
    from recbole_fofa.cloud.population import Population
    from recbole_fofa.recommender.forward_ofa import ForwardOFA
    from recbole_fofa.serving.history_file import HistoryFile


def main(argv: Sequence[str]) -> int:
    """Run ``export``; returns the exit code."""
    arguments = _parser().parse_args(argv)
    profile = load_profile(arguments.profile)  # before anything slow
    _check_sources(arguments)
    users = _users(arguments)
    shard = chosen_shard(arguments.shard)
    folder = shard_path(arguments.output_dir, shard)
    _need_folder(folder)
    if arguments.format != "payload":
        _need_onnx(arguments.format)
    from recbole_fofa.cloud.check_files import check_files, need_items
    from recbole_fofa.cloud.export import export
    from recbole_fofa.cloud.population import places_of_part

    people: Population | HistoryFile
    if arguments.bundle is None:
        model, people = _of_checkpoint(arguments.checkpoint, users)
        left_out = ""
    else:
        model, people = _of_bundle(arguments.bundle, arguments.histories)
        left_out = f"; {people.words()}"
    places = places_of_part(people, *shard)
    if arguments.report:
        need_items(people, places)
    manifest = export(
        model,
        people,
        profile,
        folder,
        places=places,
        form=arguments.format,
        show_progress=not arguments.quiet,
    )
    sys.stdout.write(f"{_summary(manifest)}{left_out}\n")
    if arguments.report:
        path = check_files(model, people, places, manifest.parent, arguments.report)
        sys.stdout.write(path.read_text(encoding="utf-8"))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_recbole_fofa export",
        description="Write a bundle for a device class and a payload for each user: of a "
        "checkpoint's data set, or, in a stream and without the data set, of a file of histories.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", help="a .pth, or the output folder of a run")
    source.add_argument("--bundle", help="a model's bundle, or the output folder of a run")
    parser.add_argument(
        "--histories",
        help="with --bundle: file with a user and a history a line: text (user, tab, tokens with "
        'blanks) or .jsonl ({"user": ..., "history": [...]})',
    )
    parser.add_argument(
        "--profile",
        default="mid",
        help=f"device class: {', '.join(shipped_profiles())} or a .yaml file (default: mid)",
    )
    parser.add_argument("--output_dir", required=True, help="folder of the files")
    parser.add_argument("--users", nargs="+", help="of the data set (default: all)")
    parser.add_argument("--users_file", help="file with one user token a line")
    parser.add_argument(
        "--format",
        choices=("payload", "onnx", "standalone"),
        default="payload",
        help="onnx: a graph for each number of kept blocks too; standalone: one for each user too",
    )
    parser.add_argument(
        "--report",
        type=positive,
        metavar="N",
        help="check the files of N users against the model; sizes and latency to report.json",
    )
    add_shard(parser, "users")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    return parser


def _check_sources(arguments: argparse.Namespace) -> None:
    if arguments.bundle is None and arguments.histories is not None:
        raise ConfigError(
            "--histories goes with --bundle; with --checkpoint the users are those of its data set "
            "(--users)"
        )
    if arguments.bundle is not None:
        if arguments.histories is None:
            raise ConfigError("--bundle needs --histories, the file of users and their items")
        if arguments.users is not None or arguments.users_file is not None:
            raise ConfigError(
                "--users and --users_file choose from a data set (--checkpoint); with --bundle all "
                "users of --histories are exported: leave them out"
            )


def _of_checkpoint(checkpoint: str, users: list[str] | None) -> tuple[ForwardOFA, Population]:
    from recbole_fofa.cloud.assemble import check_exportable
    from recbole_fofa.cloud.population import population
    from recbole_fofa.quick_start import load_data_and_model

    _, model, dataset, *_ = load_data_and_model(checkpoint)
    check_exportable(model)
    return model, population(dataset, users)


def _of_bundle(bundle: str, histories: str) -> tuple[ForwardOFA, HistoryFile]:
    from recbole_fofa.cloud.assemble import check_exportable
    from recbole_fofa.serving.history_file import HistoryFile
    from recbole_fofa.serving.recommend import load

    recommender = load(bundle)
    check_exportable(recommender.model)
    return recommender.model, HistoryFile(histories, recommender.vocabulary)


def _users(arguments: argparse.Namespace) -> list[str] | None:
    if arguments.users_file is None:
        return arguments.users  # type: ignore[no-any-return]
    if arguments.users is not None:
        raise ConfigError("--users and --users_file are both given: leave one out")
    users = read_lines("--users_file", arguments.users_file)
    if not users:
        raise ConfigError(f"--users_file {arguments.users_file} names nobody")
    return users


def _need_folder(folder: Path) -> None:
    from recbole_fofa.config.report import not_writable

    reason = not_writable(folder.absolute())
    if reason:
        raise ConfigError(f"cannot write to {folder} (--output_dir): {reason}")


def _need_onnx(form: str) -> None:
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise ConfigError(
            f"--format {form} needs the extra: pip install 'recbole_fofa[onnx]'"
        ) from None


def _summary(manifest: Path) -> str:
    structures: Counter[str] = Counter()
    payload = macs = 0
    with manifest.open(encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            structures[line["structure"]] += 1
            payload += line["payload_bytes"]
            macs += line["macs"]
    n_users = structures.total()
    common = ", ".join(f"{name} x{count}" for name, count in structures.most_common(5))
    return (
        f"{n_users} users in {manifest.parent}: mean payload {payload / n_users:.0f} bytes, uplink "
        f"{line['uplink_bytes']} bytes, {macs / n_users:.0f} MACs a request; structures {common}"
    )
