"""Tables from the lines in ``results/``; each function is one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import mean, stdev
from typing import Any

from record import read_lines

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


def of_last_settings(lines: Sequence[Line], key: Callable[[Line], Any]) -> list[Line]:
    """Of the lines of each key those with the settings of the last one."""
    last = {key(line): line.get("settings_hash") for line in lines}
    return [line for line in lines if line.get("settings_hash") == last[key(line)]]


def spread(lines: Sequence[Line], name: str) -> str:
    """Mean and standard deviation over seeds."""
    values = [line[name] for line in lines]
    return f"{mean(values):.4f} ± {stdev(values):.4f}" if len(values) > 1 else f"{values[0]:.4f}"


def seeds_of(lines: Sequence[Line]) -> str:
    """Such as ``1, 2, 3``."""
    return ", ".join(str(seed) for seed in sorted(line["seed"] for line in lines))


def runs(threads: int) -> list[Line]:
    """Runs of ``ml100k_accuracy`` with a number of threads, the latest of each model and seed."""
    chosen = [line for line in read_lines("ml100k_accuracy") if line["threads"] == threads]
    groups = grouped(chosen, lambda line: line["model"])
    return [line for group in groups.values() for line in group]


def accuracy() -> str:
    """ml-100k: ours and DUET; on other backbones in a table of its own."""
    return _accuracy_rows([line for line in runs(1) if not other_backbone(line)])


def stock() -> str:
    """ml-100k: RecBole alone."""
    return _accuracy_rows(read_lines("stock_recbole"))


def backbones() -> str:
    """ml-100k: the other backbones."""
    return _accuracy_rows([line for line in runs(1) if other_backbone(line)])


def other_backbone(line: Line) -> bool:
    """Whether a run is one of the other backbones'."""
    return "--backbone" in line["run"]


def _accuracy_rows(lines: Sequence[Line]) -> str:
    names = ("valid_ndcg@10", "test_ndcg@10", "test_hit@10", "test_mrr@10")
    return table(
        "ml-100k | seeds | valid NDCG@10 | test NDCG@10 | Hit@10 | MRR@10 | blocks' MACs",
        [
            [
                model,
                seeds_of(group),
                *(spread(group, name) for name in names),
                f"{mean(line.get('mean_macs_share', 1.0) for line in group):.0%}",
            ]
            for model, group in grouped(lines, lambda line: line["model"]).items()
        ],
    )


def structures(threads: int) -> str:
    """Keep rate per block and users of each structure, one row per seed."""
    return table(
        "seed | seconds | keep rate per block | users of each structure",
        [
            [
                line["seed"],
                f"{line['seconds']:.0f}",
                ", ".join(f"{rate:.2f}" for rate in line["keep_rate"]),
                ", ".join(f"{name}: {count}" for name, count in line["structures"].items()),
            ]
            for line in runs(threads)
            if line["model"] == "ForwardOFA"
        ],
    )


def speed() -> str:
    """Seconds per epoch of the latest side-by-side run."""
    lines = read_lines("speed")[-4:]
    slowest = lines[0]["seconds_per_epoch"]
    return table(
        "ml-100k | steps an epoch | s an epoch | first row / this | this / static",
        [
            [
                line["way"],
                line["steps_per_epoch"],
                f"{line['seconds_per_epoch']:.1f}",
                f"{slowest / line['seconds_per_epoch']:.1f}",
                f"{line['ratio_to_static']:.2f}",
            ]
            for line in lines
        ],
    )


def time_to_quality() -> str:
    """Time to stock SASRec's best validation score, a table for each data set."""
    by_dataset: dict[str, list[Line]] = {}
    for line in read_lines("time_to_quality"):
        by_dataset.setdefault(line["dataset"], []).append(line)
    whole = {name: found for name, found in by_dataset.items() if found[-1]["way"] == "stock"}
    return "\n\n".join(_time_to_quality(*found) for found in whole.items())


def _time_to_quality(dataset: str, found: Sequence[Line]) -> str:
    """Stock's own time is the yardstick."""
    groups = grouped(found, lambda line: (line["way"], line.get("anomaly_mode")))
    names = {("stock", True): "RecBole SASRec, as it is", ("stock", False): "without anomaly mode"}

    def average(lines: Sequence[Line], name: str) -> float:
        return mean(line[name] for line in lines)

    as_it_is, without = (average(groups["stock", mode], "seconds") for mode in (True, False))
    return table(
        f"{dataset} | seeds | there | epochs | s an epoch | s | as it is / this | without / this",
        [
            [
                names.get((way, mode), way),
                seeds_of(lines),
                f"{sum(line['reached'] for line in lines)} of {len(lines)}",
                f"{average(lines, 'epochs'):.1f}",
                f"{average(lines, 'seconds_per_epoch'):.1f}",
                f"{average(lines, 'seconds'):.0f}",
                f"{as_it_is / average(lines, 'seconds'):.1f}",
                f"{without / average(lines, 'seconds'):.1f}",
            ]
            for (way, mode), lines in groups.items()
        ],
    )


def budgets() -> str:
    """One trained model at several budgets, and a static network of each depth."""
    by_budget = grouped(budget_lines(), lambda x: (x["budget"], x["model"]))
    kinds = {
        "one ForwardOFA": "ForwardOFA",
        "its structures shuffled": "ForwardOFA, structures shuffled over users",
    }
    rows = []
    for budget in sorted({budget for budget, _ in by_budget}):
        found = {model: lines for (share, model), lines in by_budget.items() if share == budget}
        (static,) = (lines for model, lines in found.items() if model.startswith("static"))
        ours = found[kinds["one ForwardOFA"]]
        rows.append(
            [
                f"{budget:.0%}",
                f"{mean(line['mean_macs'] for line in ours):,.0f}",
                spread(ours, "ndcg@10"),
                spread(found[kinds["its structures shuffled"]], "ndcg@10"),
                f"{mean(line['mean_macs'] for line in static):,.0f}",
                spread(static, "ndcg@10"),
                f"{spread(ours, 'valid_ndcg@10')} / {spread(static, 'valid_ndcg@10')}",
                ", ".join(str(len(line["structures"])) for line in ours),
            ]
        )
    return table(
        "budget | MACs | ForwardOFA, one model | the same, structures shuffled | static MACs | "
        "static, trained alone | valid, both | structures",
        rows,
    )


def budget_lines() -> list[Line]:
    """Lines of ``budget_curve``, each model's of the settings that were run last."""
    return of_last_settings(read_lines("budget_curve"), lambda x: (x["budget"], x["model"]))


def conflict() -> str:
    """Cosines of gradients, weighted by the number of pairs."""
    groups: dict[Any, list[Line]] = {}
    for line in read_lines("gradient_conflict"):
        groups.setdefault((line["way"], line["holder"], line["pairs"]), []).append(line)
    rows = []
    for (way, holder, pairs), lines in groups.items():
        n_pairs = sum(line["n_pairs"] for line in lines)
        cosine, negative = (
            sum(line["n_pairs"] * line[name] for line in lines) / n_pairs
            for name in ("mean_cosine", "negative_share")
        )
        rows.append([way, holder, pairs, n_pairs, f"{cosine:.3f}", f"{negative:.1%}"])
    return table("parameters | gradient at | pairs of groups | pairs | mean cosine | below 0", rows)


def payloads() -> str:
    """Bytes of a session and accuracy, by way of the devices themselves."""
    groups = grouped(payload_lines(), _session)
    whole = {dataset: lines for (dataset, way), lines in groups.items() if way == WHOLE}
    rows = []
    for (dataset, way), lines in groups.items():
        size = mean(line["payload_bytes"] for line in lines)
        full = mean(line["payload_bytes"] for line in whole.get(dataset, lines))
        up = lines[0]["uplink_bytes"]
        rows.append(
            [
                dataset,
                way,
                seeds_of(lines),
                f"{size:,.0f}",
                f"{size / full:.1%}",
                "-" if up is None else f"{up:.0f}",
                spread(lines, "ndcg@10"),
                _loss(lines),
            ]
        )
    return table(
        "data | payload | seeds | bytes down | of whole fp32 | bytes up | NDCG@10 | "
        "change against the cloud",
        rows,
    )


WHOLE = "whole blocks, fp32"


def payload_lines() -> list[Line]:
    """Of each data set and kind of payload, the lines of the settings that were run last."""
    return of_last_settings(read_lines("payload"), _session)


def _session(line: Line) -> tuple[str, str]:
    return line["dataset"], line["way"]


def _loss(lines: Sequence[Line]) -> str:
    """Relative change of NDCG@10 against the same model in the cloud."""
    if "cloud_ndcg@10" not in lines[0]:
        return "-"
    ratio = mean(line["ndcg@10"] for line in lines) / mean(line["cloud_ndcg@10"] for line in lines)
    return f"{ratio - 1:+.2%}"


def device_structures() -> str:
    """Who gets which structure by default, on each data set."""
    rows = []
    for line in payload_lines():
        if line["way"] == "low rank 16, fp32":
            counts = ", ".join(f"{name}: {count}" for name, count in line["structures"].items())
            rows.append([line["dataset"], line["seed"], line["users"], counts])
    return table("data | seed | users | users of each structure", rows)


def latency() -> str:
    """p50 of each way and number of kept blocks, and its ratio to all blocks."""
    found = {
        (line["way"], line["n_kept"]): line
        for line in read_lines("latency")
        if (line["backbone"], line["n_layers"], line["hidden_size"]) == ("sasrec", 8, 64)
    }
    ways = ["assembled in torch", "numpy", "onnxruntime", "masked in the cloud"]
    n_layers = max(n_kept for _, n_kept in found)
    rows = []
    for n_kept in range(n_layers + 1):
        cells = []
        for way in ways:
            line = found[way, n_kept]
            cells.append(
                f"{line['p50_ms']:.2f} ({line['ratio_to_full']:.2f}, {line['ratio_to_static']:.2f})"
            )
        one = found[ways[0], n_kept]
        sizes = [f"{one[name]:,}" for name in ("block_parameters", "macs")]
        rows.append([f"{n_kept} of {n_layers}", *sizes, *cells])
    static = found["static", n_layers]
    rows.append(
        [
            f"static, {n_layers}",
            f"{static['block_parameters']:,}",
            f"{static['macs']:,}",
            f"{static['p50_ms']:.2f} (-, 1.00)",
            *["-"] * 3,
        ]
    )
    return table(f"kept | parameters of blocks | MACs | {' | '.join(ways)}", rows)


def adaptation() -> str:
    """One forward adaptation against an epoch of fine-tuning."""
    return table(
        "way | ms a user | against forward | peak memory, MB",
        [
            [
                line["way"],
                f"{1000 * line['seconds_per_user']:.2f}",
                f"{line['ratio_to_forward']:.1f} x",
                f"{line['peak_memory_bytes'] / 1e6:.1f}",
            ]
            for line in read_lines("adaptation")[-3:]
        ],
    )


def throughput() -> str:
    """Users a second on one core, and growth with the sizes."""
    lines = read_lines("throughput")[-8:]
    return table(
        "blocks | behaviour | hidden_size | users a second | batched part alone | seconds / first",
        [
            [
                line["n_layers"],
                line["adapt_seq_length"],
                line["hidden_size"],
                f"{line['users_per_second']:.0f}",
                f"{line['users_per_second_batched_part']:.0f}",
                f"{line['seconds_relative_to_default']:.2f}",
            ]
            for line in lines
        ],
    )


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


def serving() -> str:
    """Lists for many histories, in the order in which they were measured."""
    lines = read_lines("serving")[-4:]
    return table(
        "histories | seconds | a second | memory that the process grew by | one call",
        [
            [
                f"{line['histories']:,}",
                line["seconds"],
                f"{line['a_second']:,.0f}",
                f"{line['peak_memory_growth_bytes'] / 1e6:.0f} MB",
                f"{line['single_call_ms']:.1f} ms",
            ]
            for line in lines
        ],
    )


def many_users() -> str:
    """Bytes and core hours for many users, from the measured costs of one."""
    adapt = read_lines("throughput")[-8]["users_per_second"]
    lists = max(read_lines("serving")[-4:], key=lambda line: line["histories"])["a_second"]
    epoch = next(x for x in reversed(read_lines("speed")) if x["way"].startswith("ForwardOFA"))
    seconds = epoch["seconds_per_epoch"] / ML_100K_TARGETS
    payload = mean(
        line["payload_bytes"]
        for line in read_lines("payload")
        if line["way"] == "low rank 16, fp16" and line["dataset"] == "ml-100k"
    )
    rows = []
    for users in (10**6, 10**8, 10**9):
        interactions = users * INTERACTIONS_A_USER
        rows.append(
            [
                f"10^{len(str(users)) - 1}",
                f"{32 * interactions / 1e9:,.1f} GB",
                f"{interactions * seconds / 3600:,.0f}",
                f"{users / adapt / 3600:,.1f}",
                f"{users * payload / 1e9:,.1f} GB",
                f"{users / lists / 3600:,.1f}",
            ]
        )
    return table(
        "users | histories in memory | core hours an epoch | core hours to adapt to all | "
        "all payloads, fp16 | core hours for all lists",
        rows,
    )


ML_100K_TARGETS = 100_000 - 3 * 943
"""Of training: all interactions but the first and the last two of each user."""
INTERACTIONS_A_USER = 100
