"""``compare``: paired tests between results of ``device-eval``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from recbole_fofa.errors import ConfigError


def main(argv: Sequence[str]) -> int:
    """Run ``compare``; returns the exit code."""
    arguments = _parser().parse_args(argv)
    from recbole_fofa.evaluator.compare import compare, comparison_table, operand
    from recbole_fofa.evaluator.report import main_metric
    from recbole_fofa.whole_file import write_whole

    if arguments.seed < 0:
        raise ConfigError(f"--seed must be a whole number of at least 0; got {arguments.seed}")
    output = Path(arguments.output) if arguments.output else None
    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise ConfigError(f"--output {output}: name a file in a folder that exists")
    operands = [operand(text) for text in arguments.results]
    metric = arguments.metric or main_metric(operands[0].report)
    found = compare(operands, metric, arguments.test, arguments.seed)
    sys.stdout.write(comparison_table(operands[0], found, metric))
    if output is not None:
        written = {
            "metric": metric,
            "test": arguments.test,
            "reference": operands[0].name,
            "protocol": operands[0].report.protocol,
            "comparisons": [asdict(one) for one in found],
        }
        try:
            write_whole(output, (json.dumps(written, indent=2) + "\n").encode())
        except OSError as error:
            raise ConfigError(f"cannot write {arguments.output} (--output): {error}") from None
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_recbole_fofa compare",
        description="Compare results user by user with the first one: two-sided tests, corrected "
        "for their number (Holm). Results that ranked other items or other users are refused.",
    )
    parser.add_argument(
        "results",
        nargs="+",
        help="folders of device-eval, or FOLDER#row, such as 'out#mid: chosen per user'; without "
        "a row, the last profile's structures as chosen, or a model's only row",
    )
    parser.add_argument("--metric", help="such as ndcg@10 (default: what epochs were chosen by)")
    parser.add_argument("--test", choices=("permutation", "wilcoxon"), default="permutation")
    parser.add_argument("--seed", type=int, default=0, help="of the permutations")
    parser.add_argument("--output", help=".json file of the unrounded numbers")
    return parser
