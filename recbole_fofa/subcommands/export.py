"""``export``: files for devices from a checkpoint."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from recbole_fofa.device_profile import load_profile, shipped_profiles
from recbole_fofa.errors import ConfigError
from recbole_fofa.subcommands.shards import add_shard, chosen_shard, shard_path


def main(argv: Sequence[str]) -> int:
    """Run ``export``; returns the exit code."""
    arguments = _parser().parse_args(argv)
    profile = load_profile(arguments.profile)  # before anything slow
    users = _users(arguments)
    shard = chosen_shard(arguments.shard)
    folder = shard_path(arguments.output_dir, shard)
    _need_folder(folder)
    if arguments.format != "payload":
        _need_onnx(arguments.format)
    from recbole_fofa.cloud.assemble import check_exportable
    from recbole_fofa.cloud.export import export
    from recbole_fofa.cloud.population import population
    from recbole_fofa.quick_start import load_data_and_model

    _, model, dataset, *_ = load_data_and_model(arguments.checkpoint)
    check_exportable(model)
    people = population(dataset, users).part(*shard)
    manifest = export(
        model,
        people,
        profile,
        folder,
        form=arguments.format,
        show_progress=not arguments.quiet,
    )
    sys.stdout.write(_summary(manifest))
    if arguments.report:
        from recbole_fofa.cloud.check_files import check_files

        path = check_files(model, people, manifest.parent, arguments.report)
        sys.stdout.write(path.read_text(encoding="utf-8"))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_recbole_fofa export",
        description="Write a bundle for a device class and a payload for each user.",
    )
    parser.add_argument("--checkpoint", required=True, help="a .pth, or the output folder of a run")
    parser.add_argument(
        "--profile",
        default="mid",
        help=f"device class: {', '.join(shipped_profiles())} or a .yaml file (default: mid)",
    )
    parser.add_argument("--output_dir", required=True, help="folder of the files")
    parser.add_argument("--users", nargs="+", help="tokens of users (default: all)")
    parser.add_argument("--users_file", help="file with one user token a line")
    parser.add_argument(
        "--format",
        choices=("payload", "onnx", "standalone"),
        default="payload",
        help="onnx: a graph for each number of kept blocks too; standalone: one for each user too",
    )
    parser.add_argument(
        "--report",
        type=_positive,
        metavar="N",
        help="check the files of N users against the model; sizes and latency to report.json",
    )
    add_shard(parser, "users")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of users")
    return number


def _users(arguments: argparse.Namespace) -> list[str] | None:
    if arguments.users_file is None:
        return arguments.users  # type: ignore[no-any-return]
    if arguments.users is not None:
        raise ConfigError("--users and --users_file are both given: leave one out")
    try:
        text = Path(arguments.users_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--users_file {arguments.users_file}: {error}") from None
    users = text.splitlines()
    if not users:
        raise ConfigError(f"--users_file {arguments.users_file} has no line")
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
    lines = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    counts = Counter(line["structure"] for line in lines).most_common(5)
    n_users = len(lines)
    payload, macs = (sum(line[key] for line in lines) for key in ("payload_bytes", "macs"))
    return (
        f"{n_users} users in {manifest.parent}: mean payload {payload / n_users:.0f} bytes, uplink "
        f"{lines[0]['uplink_bytes']} bytes, {macs / n_users:.0f} MACs a request; structures "
        f"{', '.join(f'{name} x{count}' for name, count in counts)}\n"
    )
