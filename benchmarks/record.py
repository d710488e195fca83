"""What every benchmark line says about where it came from, and how lines are kept."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
RESULTS = Path(os.environ.get("BENCH_RESULTS") or BENCHMARKS / "results").absolute()
"""Of all lines. Another folder in ``BENCH_RESULTS`` has none yet, so that runs are done anew."""
# The commit of a line is that of this checkout, so its package is measured, whichever is installed.
sys.path.insert(0, str(ROOT))
PROTOCOL = "leave-one-out, full ranking, history not masked"


def provenance(threads: int) -> dict[str, Any]:
    """Commit, date, versions, hardware and the command of this run, as plain data.

    Call it before the work: the commit that a long run started from is the one that it measures.
    """
    return {
        "command": shlex.join(["python", *map(_relative, sys.argv)]),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("recbole", "torch", "numpy", "pandas", "scipy")
        },
        "python": platform.python_version(),
        "hardware": f"CPU {_cpu_name()}, {platform.machine()}{_gpu_name()}",
        "threads": threads,
    }


@contextmanager
def finished_run(words: Sequence[str]) -> Iterator[Path]:
    """Folder of what the project's own command wrote, run to its end in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, ROOT / "run_recbole_fofa.py", *words]
        subprocess.run([*command, "--quiet", f"--output_dir={folder}"], check=True)
        yield Path(folder)


def best_checkpoint(folder: Path) -> Path:
    """The one that a run in an output folder has tested."""
    (best,) = (path for path in (folder / "saved").glob("*.pth") if "-last" not in path.name)
    return best


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that tell one plain value from another."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def append_line(name: str, line: dict[str, Any]) -> None:
    """Add one JSON line to ``results/<name>.jsonl``; earlier lines are never touched."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    # In one piece, for several processes may write.
    with (RESULTS / f"{name}.jsonl").open("ab", buffering=0) as file:
        file.write((json.dumps(line) + "\n").encode())


def read_lines(name: str) -> list[dict[str, Any]]:
    """All lines of ``results/<name>.jsonl``, oldest first; none if there is no such file."""
    path = RESULTS / f"{name}.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def refuse_unknown(option: str, given: Iterable[Any] | None, known: Iterable[Any]) -> None:
    """End the script where an option names what there is not, which would choose nothing.

    Raises:
        SystemExit: If ``given`` holds something that is not in ``known``; names both.
    """
    names = sorted(map(str, set(known)))
    for word in map(str, given or ()):
        if word not in names:
            sys.exit(f"error: {option}: no '{word}'; there is {', '.join(map(repr, names))}")


def _relative(argument: str) -> str:
    return argument.replace(f"{ROOT}/", "")


def _commit() -> str:
    """Short hash of HEAD, with ``+changes`` where tracked files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":!benchmarks/results")
    return (git("rev-parse", "--short", "HEAD") or "none") + ("+changes" if changed else "")


def _gpu_name() -> str:
    """The GPU that torch would take, after a comma; nothing without one."""
    import torch

    return f", GPU {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
