"""Lines by groups, means over seeds, Markdown: what all tables are made with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import mean, stdev
from typing import Any

Line = dict[str, Any]


def table(head: str, rows: Iterable[Sequence[object]]) -> str:
    """Markdown; the columns' names are parted by ``|``."""
    names = [name.strip() for name in head.split("|")]
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def grouped(lines: Iterable[Line], key: Callable[[Line], Any]) -> dict[Any, list[Line]]:
    """Lines by key, in the order of their first appearance, the latest of each seed alone."""
    groups: dict[Any, dict[Any, Line]] = {}
    for line in lines:
        groups.setdefault(key(line), {})[line.get("seed")] = line
    return {name: list(by_seed.values()) for name, by_seed in groups.items()}


def of_last(name: str, lines: Sequence[Line], key: Callable[[Line], Any]) -> list[Line]:
    """Of the lines of each key those with the value of the last one, such as its settings' hash."""
    last = {key(line): line.get(name) for line in lines}
    return [line for line in lines if line.get(name) == last[key(line)]]


def spread(lines: Sequence[Line], name: str) -> str:
    """Mean and standard deviation over seeds."""
    values = [line[name] for line in lines]
    return f"{mean(values):.4f} ± {stdev(values):.4f}" if len(values) > 1 else f"{values[0]:.4f}"


def seeds_of(lines: Sequence[Line]) -> str:
    """Such as ``1, 2, 3``."""
    return ", ".join(str(seed) for seed in sorted(line["seed"] for line in lines))


def origin(lines: Sequence[Line]) -> str:
    """Commands, commits and the machines of a table's lines."""
    commands = "\n".join(dict.fromkeys(line["command"] for line in lines))
    commits = ", ".join(dict.fromkeys(line["commit"] for line in lines))
    threads = " and ".join(dict.fromkeys(str(line["threads"]) for line in lines))
    machines = dict.fromkeys(_machine(line) for line in lines)
    return (
        f"```bash\n{commands}\n```\n\nCommits {commits}; threads: {threads}; "
        f"{'; or '.join(machines)}."
    )


def _machine(line: Line) -> str:
    versions = ", ".join(f"{package} {version}" for package, version in line["versions"].items())
    return f"{line['hardware']}, Python {line['python']}, {versions}"
