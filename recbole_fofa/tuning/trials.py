"""The trials of a search: a line each, and the best one as a YAML file that a run takes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from recbole_fofa.errors import ConfigError
from recbole_fofa.whole_file import held, write_whole

TRIALS, TABLE, BEST = "trials.jsonl", "trials.csv", "best.yaml"


@dataclass(frozen=True)
class Trial:
    """One choice of settings and what became of it.

    Attributes:
        number: Counted from 0.
        chosen: Value of each setting of the space.
        state: ``pruned`` if it was stopped early, ``failed`` if it could not be trained.
        score: Best validation score; None if failed.
        scores: Validation score of each validated epoch, by epoch (from 0).
        seconds: Wall time.
        reason: Why it failed.
    """

    number: int
    chosen: dict[str, Any]
    state: Literal["complete", "pruned", "failed"]
    score: float | None
    scores: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    reason: str = ""

    def words(self) -> str:
        """The line that is printed."""
        chosen = ", ".join(f"{name}={value}" for name, value in self.chosen.items())
        outcome = self.reason if self.score is None else f"{self.score:.6f}"
        note = "" if self.state == "complete" else f" ({self.state})"
        return f"trial {self.number}: {outcome}{note}, {self.seconds:.0f} s; {chosen}"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make the folder of a search and keep it for this process.

    Raises:
        ConfigError: It cannot be made.
        OutputError: Another process searches there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder} (--output_dir): {error}") from None
    with held(folder):
        yield


class TrialBook:
    """Finished trials in a folder. A trial that was killed has no line, and is run again.

    Args:
        folder: Of the search, see :func:`claimed`.
        identity: What the search is about: space, fixed settings, seed. A folder belongs to one.

    Raises:
        ConfigError: The folder is of another search or damaged.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        # As JSON gives it back, so that it can be compared with what was written.
        self._identity = json.loads(json.dumps(identity))
        self.trials: list[Trial] = []
        if (folder / TRIALS).exists():
            self._read()
        self._write()

    def add(self, trial: Trial) -> None:
        """Keep a trial; a reader never sees half of it."""
        self.trials.append(trial)
        self._write()

    def best(self, bigger: bool) -> Trial | None:
        """The trial of the best score among those that were not stopped."""
        whole = [trial for trial in self.trials if trial.state == "complete"]
        sign = 1 if bigger else -1
        return max(whole, key=lambda trial: sign * (trial.score or 0.0), default=None)

    def write_best(self, trial: Trial, given: dict[str, Any]) -> Path:
        """The settings of a trial, with those that were given for all, for ``--config_files``."""
        path = self.folder / BEST
        text = yaml.safe_dump({**given, **trial.chosen}, sort_keys=False, allow_unicode=True)
        note = f"# Trial {trial.number} of {len(self.trials)}: validation score {trial.score}\n"
        write_whole(path, (note + text).encode())
        return path

    def _read(self) -> None:
        path = self.folder / TRIALS
        try:
            identity, *lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
            identity = dict(identity)
            found = [
                Trial(**{**line, "scores": {int(k): v for k, v in line["scores"].items()}})
                for line in lines
            ]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"{path} is damaged: {error}. Choose another --output_dir") from None
        changed = sorted(
            key
            for key in {*identity, *self._identity}
            if identity.get(key) != self._identity.get(key)
        )
        if changed:
            raise ConfigError(
                f"{self.folder} holds a search that differs in {', '.join(changed)}: choose "
                "another --output_dir, or ask for what it was begun with"
            )
        self.trials = found

    def _write(self) -> None:
        lines = [self._identity, *map(asdict, self.trials)]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_whole(self.folder / TRIALS, text.encode())
        table = io.StringIO()
        names = list(self._identity["space"])
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["trial", "state", "score", "epochs", "seconds", *names])
        for trial in self.trials:
            row = [trial.number, trial.state, trial.score, len(trial.scores), trial.seconds]
            writer.writerow([*row, *(trial.chosen.get(name) for name in names)])
        write_whole(self.folder / TABLE, table.getvalue().encode())
