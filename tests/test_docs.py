"""Every block of code in README and docs does what it says: it is run."""

from __future__ import annotations

import gzip
import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from small import write_cycle

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- (?P<note>[^>]+) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SMALL = (
    "--torch_threads=1 --MAX_ITEM_LIST_LENGTH=10 --train_batch_size=512 "
    "--user_inter_num_interval=[0,100]"
)
"""What a command gets that trains: a quarter of the data, once where it does not say how long."""


@dataclass(frozen=True)
class Block:
    """A block of code, and the comment in front of it."""

    page: str
    kind: str
    text: str
    note: str

    @property
    def by_ci(self) -> bool:
        """Whether ``.ci/run`` runs it as it stands."""
        return self.note.startswith("ci: ")

    @property
    def is_long(self) -> bool:
        """Whether it repeats a measurement, for minutes or hours."""
        return "benchmarks/" in self.text


def blocks(page: Path) -> list[Block]:
    return [
        Block(page.name, match["kind"], match["text"], match["note"] or "")
        for match in BLOCK.finditer(page.read_text(encoding="utf-8"))
    ]


def test_every_block_is_found() -> None:
    """Pictures have no kind; all else is bash, python or yaml, and the pattern finds it."""
    for page in PAGES:
        fences = [
            line for line in page.read_text(encoding="utf-8").splitlines() if line[:3] == "```"
        ]
        kinds = [line[3:] for line in fences[::2] if line != "```"]
        assert all(line == "```" for line in fences[1::2]), page.name
        assert set(kinds) <= {"bash", "python", "yaml"}, page.name
        assert kinds == [block.kind for block in blocks(page)], page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_measurements_exist(page: Path) -> None:
    """Not repeated here, but their script is there and knows their options."""
    for block in blocks(page):
        for line in block.text.splitlines() if block.is_long else ():
            script = re.search(r"benchmarks/\w+\.py", line)
            if script is None:
                continue
            assert (ROOT / script[0]).is_file(), f"{page.name}: {line}"
            source = (ROOT / script[0]).read_text(encoding="utf-8")
            for option in re.findall(r" (--[\w-]+)", line.split("#")[0]):
                assert f'"{option}"' in source or "parse_known_args" in source, (
                    f"{page.name}: {line}"
                )


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_run(page: Path, tmp_path: Path) -> None:
    """In the page's order, in one folder, with a file of the reader's own in it."""
    mine = [b for b in blocks(page) if not b.by_ci and not b.is_long and b.kind != "yaml"]
    if not mine:
        return
    environment = prepared(tmp_path)
    own = write_cycle(tmp_path / "made").read_bytes()
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "clicks.inter.gz").write_bytes(gzip.compress(own))
    python = "".join(
        f"run_bash({block.text!r})\n" if block.kind == "bash" else block.text for block in mine
    )
    program = f"import subprocess\ndef run_bash(text):\n{BASH}\n{python}"
    run("python", program, tmp_path, environment)


BASH = """
    subprocess.run(["bash", "-euo", "pipefail", "-c", text], check=True)
"""


def prepared(folder: Path) -> dict[str, str]:
    """The command on the path; its training runs are short where the page does not say more."""
    commands = folder / "bin"
    commands.mkdir()
    main = f"{sys.executable} {ROOT / 'run_recbole_fofa.py'}"
    as_it_is = "export|device-eval|compare|recommend|bundle|--help|--version"
    script = f"""#!/bin/bash
case "$1" in
    {as_it_is}) exec {main} "$@" ;;
esac
case "$*" in
    *--dataset\\ shop*) exec {main} "$@" ;;  # the tutorial's own data are small
    *--epochs*) exec {main} "$@" {SMALL} ;;
esac
exec {main} "$@" --epochs=1 {SMALL}
"""
    command = commands / "run_recbole_fofa"
    command.write_text(script)
    command.chmod(command.stat().st_mode | stat.S_IEXEC)
    # "python run_recbole_fofa.py", as it is written from a checkout
    (folder / "run_recbole_fofa.py").write_text(
        "import os, sys\nos.execvp('run_recbole_fofa', ['run_recbole_fofa', *sys.argv[1:]])\n"
    )
    path = f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}


def run(kind: str, text: str, folder: Path, environment: dict[str, str]) -> None:
    words = ["bash", "-c", text] if kind == "bash" else [sys.executable, "-c", text]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
