"""The command ``run_recbole_fofa``: its words, its help and its exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from pydantic import BaseModel

from recbole_fofa import __version__
from recbole_fofa.config.words import parse_command_line
from recbole_fofa.errors import FofaError
from recbole_fofa.run_settings import RunSettings
from recbole_fofa.settings import DUETSettings, ForwardOFASettings

EXIT_FAULT = 2
EXIT_INTERRUPTED = 130
SUBCOMMANDS = {
    "export": "export",
    "device-eval": "device_eval",
    "compare": "compare",
    "tune": "tune",
    "bundle": "bundle",
    "recommend": "recommend",
}
"""Words that stand in the place of a run, and their modules."""

_USAGE = """\
usage: run_recbole_fofa [-m MODEL] [-d DATASET] [--config_files "A.yaml B.yaml"] [--key=value ...]
       run_recbole_fofa export --checkpoint FILE --output_dir FOLDER ...
       run_recbole_fofa device-eval --checkpoint FILE [--profiles low,mid,high] ...
       run_recbole_fofa compare RESULT RESULT ...
       run_recbole_fofa tune --space FILE [--trials N] ...
       run_recbole_fofa recommend --bundle FOLDER --history "ITEM ITEM ..." [-k 10] ...
       run_recbole_fofa bundle --checkpoint FILE --output_dir FOLDER

Train and evaluate Forward-OFA, or any model of RecBole, on a dataset of atomic files.

commands (each has a --help of its own):
  export                    files for devices: a bundle, a payload for each user, ONNX graphs
  device-eval               quality, structures, costs and staleness on device classes
  compare                   paired tests between results of device-eval
  tune                      settings with the best validation score, on optuna
  recommend                 lists of items for any history, or for a file of histories
  bundle                    a self-contained folder from a checkpoint

options:
  -m, --model MODEL         name of the model (default: ForwardOFA)
  -d, --dataset DATASET     name below data_path, a folder or an .inter file (default: ml-100k)
  --config_files "A B"      YAML files of settings; later ones win
  --nproc N                 train in N processes of this machine, each with a GPU of its own if
                            GPUs are used; torchrun starts them as well (docs/scale.md)
  -q, --quiet               show warnings, errors and the result only
  -h, --help                show this text
  --version                 show the versions of recbole_fofa and recbole
  --key=value, --key value  any setting; --key alone is --key=true
"""
_RECBOLE_KEYS = """\
settings of RecBole, among others:
  epochs, learning_rate, train_batch_size, eval_batch_size, stopping_step, seed, use_gpu, gpu_id,
  data_path, load_col, MAX_ITEM_LIST_LENGTH, eval_args, metrics, topk, valid_metric
"""


def help_text() -> str:
    """Return the text of ``--help``, with every setting of this package."""
    parts = [
        _USAGE,
        _described("settings of a run", RunSettings),
        _described("settings of ForwardOFA", ForwardOFASettings),
        _described("settings of DUET that ForwardOFA has not", DUETSettings, ForwardOFASettings),
        _RECBOLE_KEYS,
    ]
    return "\n".join(parts)


def _described(title: str, schema: type[BaseModel], known: type[BaseModel] | None = None) -> str:
    lines = [f"{title}:"]
    for key, info in schema.model_fields.items():
        if known is not None and key in known.model_fields:
            continue
        default = info.get_default(call_default_factory=True)
        shown = (
            "unset"
            if default is None
            else str(default).lower()
            if default in (True, False)
            else default
        )
        lines.append(f"  {key:<21} {info.description} [{shown}]")
    return "\n".join(lines) + "\n"


def _versions() -> str:
    import recbole

    return f"recbole_fofa {__version__} (recbole {recbole.__version__})\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: The words after the program's name; those of ``sys.argv`` if None.

    Returns:
        0, 2 after an error that a message explains, or 130 after an interruption.
    """
    _let_waiting_threads_sleep()
    try:
        return _main(sys.argv[1:] if argv is None else argv)
    except FofaError as error:
        for fault in error.faults:
            sys.stderr.write(f"error: {fault}\n")
        return EXIT_FAULT
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] in ("recbole_fofa", "recbole"):
            raise
        sys.stderr.write(f"error: the package {error.name or error} is needed here: install it\n")
        return EXIT_FAULT
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return EXIT_INTERRUPTED


def _let_waiting_threads_sleep() -> None:
    """Before torch is imported, whose threads spin while they wait for each other.

    That is faster on an idle machine. Where another program keeps a core busy, a thread waits
    out the other's share of it at every operation, and training is many times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _main(argv: Sequence[str]) -> int:
    if argv and argv[0] in SUBCOMMANDS:
        command = importlib.import_module(f"recbole_fofa.subcommands.{SUBCOMMANDS[argv[0]]}")
        code: int = command.main(argv[1:])
        return code
    found = parse_command_line(argv)
    if found.shows_help or found.shows_version:
        sys.stdout.write(help_text() if found.shows_help else _versions())
        return 0
    # Imported here: the help must not wait for torch.
    from recbole_fofa.quick_start import run_recbole_fofa

    run_recbole_fofa(config_file_list=found.config_files or None, arguments=found.arguments)
    return 0
