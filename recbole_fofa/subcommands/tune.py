"""``tune``: a search for the settings of the best validation score."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_fofa.errors import ConfigError


def main(argv: Sequence[str]) -> int:
    """Run ``tune``; returns the exit code."""
    arguments, words = _parser().parse_known_args(argv)
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ConfigError("tune needs the extra: pip install 'recbole_fofa[tune]'") from None
    from recbole_fofa.config.words import parse_command_line
    from recbole_fofa.quick_start import checked_config
    from recbole_fofa.tuning.search import tune
    from recbole_fofa.tuning.space import read_space

    space = read_space(arguments.space)
    found = parse_command_line(words)
    config = checked_config(config_file_list=found.config_files or None, arguments=found.arguments)
    folder = Path(arguments.output_dir or Path("tuning") / f"{config.model}-{config.dataset}")
    sys.stdout.write("".join(f"{name}: {values.words()}\n" for name, values in space.items()))
    best, path = tune(
        config,
        space,
        arguments.trials,
        folder,
        seed=arguments.search_seed,
        prune=not arguments.no_pruning,
        on_trial=lambda trial: _show(trial.words()),
    )
    _show(f"best: {best.words()}")
    _show(f"run it with: python run_recbole_fofa.py --config_files {path}")
    return 0


def _show(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_recbole_fofa tune",
        usage="%(prog)s --space FILE --trials N [--output_dir FOLDER] [options of a run]",
        description="Search for the settings with the best validation score. Stopped at any "
        "moment, the same command goes on. All other words are those of a run: -m, -d, "
        "--config_files, --key=value.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--space", required=True, help="YAML or RecBole's hyper file: what may be chosen"
    )
    parser.add_argument(
        "--trials", type=_number, default=20, help="trials in all, earlier ones included (20)"
    )
    parser.add_argument("--output_dir", help="folder (default: tuning/MODEL-DATASET)")
    parser.add_argument("--search_seed", type=int, default=0, help="of the proposals (0)")
    parser.add_argument("--no_pruning", action="store_true", help="train every trial to its end")
    return parser


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of trials")
    return int(text)
