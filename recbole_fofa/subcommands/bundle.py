"""``bundle``: a self-contained folder from a checkpoint and its data set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_fofa.errors import ConfigError


def main(argv: Sequence[str]) -> int:
    """Run ``bundle``; returns the exit code."""
    arguments, words = _parser().parse_known_args(argv)
    from recbole_fofa.config.sources import read_arguments
    from recbole_fofa.quick_start import load_data_and_model
    from recbole_fofa.serving.from_training import write_bundle
    from recbole_fofa.serving.model_bundle import check_free

    changes, faults = read_arguments(words)
    if faults:
        raise ConfigError(faults)
    folder = Path(arguments.output_dir)
    check_free(folder)
    config, model, _, train_data, *_ = load_data_and_model(
        arguments.checkpoint, changes=changes, trust_pickle=arguments.trust_pickle
    )
    try:
        found = write_bundle(folder, model, config, train_data._dataset, {})
    except OSError as error:
        raise ConfigError(f"cannot write to {folder} (--output_dir): {error}") from None
    sys.stdout.write(f"bundle {found}: {folder}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_recbole_fofa bundle",
        description="Weights, vocabulary and settings of a checkpoint as one folder that needs no "
        "data set. Training ends with such a folder; this is for older checkpoints. Further "
        "--key=value words change settings, say --data_path.",
        allow_abbrev=False,
    )
    parser.add_argument("--checkpoint", required=True, help="a .pth, or the output folder of a run")
    parser.add_argument("--output_dir", required=True, help="folder of the bundle")
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="also read a .pth that RecBole wrote. Such a file can run any code when it is read: "
        "only for files that you wrote yourself",
    )
    return parser
