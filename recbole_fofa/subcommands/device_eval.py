"""``device-eval``: the report of a trained model on classes of devices."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recbole_fofa.device_profile import load_profile, shipped_profiles
from recbole_fofa.errors import ConfigError
from recbole_fofa.subcommands.numbers import positive


def main(argv: Sequence[str]) -> int:
    """Run ``device-eval``; returns the exit code."""
    arguments = _parser().parse_args(argv)
    profiles = [load_profile(name) for name in arguments.profiles]  # before anything slow
    from recbole_fofa.evaluator.evaluate import evaluate_on_devices
    from recbole_fofa.evaluator.prepare import Options
    from recbole_fofa.evaluator.publish import publish
    from recbole_fofa.evaluator.report import terminal
    from recbole_fofa.quick_start import load_data_and_model
    from recbole_fofa.trainer.checkpoint import best_checkpoint, warn_of_other_rows

    options = Options(
        profiles,
        candidates=arguments.candidates,
        ages=arguments.ages,
        seed=arguments.seed,
        phase=arguments.split,
    )
    if faults := options.faults():
        raise ConfigError(faults)
    if arguments.threads:
        import torch

        torch.set_num_threads(arguments.threads)
    path = best_checkpoint(arguments.checkpoint)
    config, model, _, train_data, valid_data, test_data = load_data_and_model(path)
    warn_of_other_rows(path, train_data._dataset)
    masks = config["mask_history"] if arguments.mask_history is None else arguments.mask_history
    options = replace(options, mask_history=masks)
    eval_data = test_data if arguments.split == "test" else valid_data
    # A report of validation cases must not take the place of that of the test.
    suffix = "-devices" if arguments.split == "test" else "-devices-valid"
    folder = Path(arguments.output_dir or path.with_name(f"{path.stem}{suffix}"))
    try:
        report = evaluate_on_devices(
            model, train_data, eval_data, options, folder, show_progress=not arguments.quiet
        )
        lines = publish(report, folder)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder} (--output_dir): {error}") from None
    sys.stdout.write("\n".join([terminal(report), *lines]) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_recbole_fofa device-eval",
        description="Quality, structures, costs and staleness on device classes, in one report. "
        "A model without structures gets its quality, to be compared with others'.",
    )
    parser.add_argument("--checkpoint", required=True, help="a .pth, or the output folder of a run")
    parser.add_argument(
        "--profiles",
        type=_words,
        default=["low", "mid", "high"],
        help=f"device classes: {', '.join(shipped_profiles())} or .yaml files (paths without "
        "blanks), with commas between them (default: low,mid,high)",
    )
    parser.add_argument("--output_dir", help="folder (default: beside the checkpoint)")
    parser.add_argument(
        "--candidates",
        default="full",
        help="full: all items (default); uni99 or pop99: the target and 99 others; retrieval100: "
        "what a cheap cloud model finds; or a .npy file that one of these wrote",
    )
    parser.add_argument(
        "--mask_history",
        action=argparse.BooleanOptionalAction,
        help="rank no item of the history (default: as the run did)",
    )
    parser.add_argument(
        "--ages",
        type=_ages,
        default=[1, 5, 10, 20, 50],
        help="interactions since the payload was made, for the staleness curve, with commas; "
        "none: no curve (default: 1,5,10,20,50)",
    )
    parser.add_argument("--split", choices=("test", "valid"), default="test")
    parser.add_argument("--seed", type=int, default=0, help="of candidates and shuffling")
    parser.add_argument("--threads", type=positive, help="CPU threads of torch")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    return parser


def _words(text: str) -> list[str]:
    return [word for word in text.replace(",", " ").split() if word]


def _ages(text: str) -> list[int]:
    return [] if text == "none" else [positive(word) for word in _words(text)]
