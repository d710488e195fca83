"""A file of histories to a file of lists, in a stream that can be interrupted."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from recbole_fofa.errors import DataError
from recbole_fofa.processes import part_of
from recbole_fofa.serving.histories import History, Vocabulary
from recbole_fofa.serving.history_file import read_histories
from recbole_fofa.serving.recommend import Answerer, Recommender
from recbole_fofa.whole_file import held, names_the_file, regular_file, write_whole

HISTORIES_AT_ONCE = 1024


@dataclass
class Totals:
    """What was done.

    Attributes:
        histories: Answered by this call.
        resumed: Answered before, by a call that was interrupted.
        by_popularity: Of those of this call, without a known item.
        unknown_items: In the histories of this call.
        seconds: Wall time of this call, without the check of the file.
    """

    histories: int = 0
    resumed: int = 0
    by_popularity: int = 0
    unknown_items: int = 0
    seconds: float = 0.0

    def words(self) -> str:
        """The line that is printed."""
        before = f" ({self.resumed} were there already)" if self.resumed else ""
        return (
            f"{self.histories} histories in {self.seconds:.1f} s, "
            f"{self.histories / max(self.seconds, 1e-9):.0f} a second{before}; "
            f"{self.by_popularity} by popularity, {self.unknown_items} unknown items"
        )


@dataclass(frozen=True)
class Shard:
    """A part of the lines: the ``number``-th of ``of``, counted from 0, of equal size."""

    number: int = 0
    of: int = 1

    def lines(self, n_lines: int) -> range:
        """The lines of this shard."""
        return part_of(n_lines, self.number, self.of)


def recommend_many(
    recommender: Recommender,
    source: str | Path,
    target: str | Path,
    k: int = 10,
    *,
    shard: Shard = Shard(),
    show_progress: bool = True,
    **options: Any,
) -> Totals:
    """Answer every history of a file, a line for each, in its order.

    Memory does not grow with the file. Lists go to ``<target>.part``, which becomes ``target`` at
    the end; called again with the same arguments after an interruption it goes on where it was.

    Args:
        recommender: See :func:`load`.
        source: A line for each history, text or ``.jsonl``: see
            :mod:`recbole_fofa.serving.history_file`.
        target: JSON lines: ``user`` (if given), ``items``, ``scores``, ``source``, ``n_unknown``,
            ``structure``.
        k: Length of each list.
        shard: The part of the lines to answer; the parts' files one after the other are the whole.
        show_progress: Whether to show a bar.
        options: ``profile``, ``candidates`` and ``mask_history`` of :meth:`Recommender.recommend`.

    Raises:
        DataError: If the file cannot be read or a line is malformed (with its number), ``target``
            is ``source`` or a folder, or an interrupted call had other arguments. Told before
            anything is computed.
        OutputError: If ``target`` is no regular file, another process is writing it, or it cannot
            be written to the end; called again it goes on.
    """
    source, target = Path(source), regular_file(Path(target))
    _check_target(source, target)
    if options.get("candidates") is not None:
        options["candidates"] = list(options["candidates"])  # numpy shows a few of many only
    answer = recommender.answerer(k, **options)
    n_lines, digest = _check(source, recommender.vocabulary)
    mine = shard.lines(n_lines)
    job = {"source": digest, "model": recommender.fingerprint, "k": int(k), "shard": asdict(shard)}
    job["options"] = {name: repr(value) for name, value in sorted(options.items())}
    part = _part_of(target)
    with held(part), names_the_file(target):
        _begin(target, part, json.loads(json.dumps(job)))
        n_done = _keep_whole_chunks(part)
        totals = Totals(resumed=n_done)
        started = time.perf_counter()
        todo = mine[n_done:]
        histories = read_histories(source, recommender.vocabulary)
        lines = islice(histories, todo.start, max(todo.start, todo.stop))
        bar = tqdm(total=len(mine), initial=n_done, unit=" histories", disable=not show_progress)
        with part.open("a", encoding="utf-8") as sink, bar:
            while chunk := list(islice(lines, HISTORIES_AT_ONCE)):
                _answer_chunk(chunk, answer, sink, totals)
                bar.update(len(chunk))
        totals.seconds = time.perf_counter() - started
        os.replace(part, target)
        _job_file(target).unlink()
    return totals


def _answer_chunk(
    chunk: list[tuple[Any, History]], answer: Answerer, sink: TextIO, totals: Totals
) -> None:
    lists = answer([history for _, history in chunk])
    for (user, history), found in zip(chunk, lists, strict=True):
        named = {} if user is None else {"user": user}
        sink.write(json.dumps(named | asdict(found), ensure_ascii=False) + "\n")
        totals.histories += 1
        totals.by_popularity += found.source == "popularity"
        totals.unknown_items += history.n_unknown
    sink.flush()


def _check_target(source: Path, target: Path) -> None:
    """What would otherwise be found when all lists are there and take their name."""
    if target.is_dir():
        raise DataError(f"cannot write to {target}: it is a folder")
    if os.path.realpath(source) == os.path.realpath(target):
        raise DataError(f"{target} is the file of the histories: name another file for the lists")


def _check(source: Path, vocabulary: Vocabulary) -> tuple[int, str]:
    """Number of lines, and a digest of the file; reads it once."""
    digest = hashlib.sha256()
    n_lines = 0
    for _ in read_histories(source, vocabulary, digest):
        n_lines += 1
    return n_lines, digest.hexdigest()


def _job_file(target: Path) -> Path:
    return target.with_name(target.name + ".job")


def _part_of(target: Path) -> Path:
    """The file to append to, which one process at a time holds."""
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
    except OSError as error:
        raise DataError(f"cannot write to {target}: {error}") from None
    return part


def _begin(target: Path, part: Path, job: dict[str, Any]) -> None:
    """Note a new call, or see that what was begun is of one with the same arguments."""
    noted = _job_file(target)
    if part.stat().st_size == 0:  # nothing is lost by another call
        write_whole(noted, json.dumps(job).encode())
        return
    if not noted.exists():
        raise DataError(f"{part} has no {noted.name} beside it: remove it to begin anew")
    try:
        before = dict(json.loads(noted.read_bytes()))
    except (ValueError, TypeError) as error:
        raise DataError(f"{noted} is damaged ({error}): remove it and {part}") from None
    if before != job:
        changed = [name for name in job if before.get(name) != job[name]]
        raise DataError(
            f"{part} is of an interrupted call that differs in {', '.join(changed)}: repeat that "
            "call, or remove the file to begin anew"
        )


def _keep_whole_chunks(part: Path) -> int:
    """Cut what was begun and not ended; how many lines stay.

    A chunk that was begun is computed again, so that every chunk has the histories, and every
    score the last digit, that it has without an interruption.
    """
    n_kept = size_kept = size = 0
    with part.open("rb+") as file:
        for number, line in enumerate(file, start=1):
            size += len(line)
            if number % HISTORIES_AT_ONCE == 0 and line.endswith(b"\n"):
                n_kept, size_kept = number, size
        file.truncate(size_kept)
    return n_kept
