"""Tables of devices and of serving from the lines in ``results/``; each public function is one."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from record import read_lines
from table import Line, grouped, of_last, seeds_of, spread, table


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
    return of_last("settings_hash", read_lines("payload"), _session)


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
        for line in payload_lines()
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
