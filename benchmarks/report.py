"""Tables of the README from the lines in ``results/``.

python benchmarks/report.py            # prints them
python benchmarks/report.py --write    # puts them between the README's marks
"""

from __future__ import annotations

import sys
from statistics import mean, stdev
from typing import Any

from record import RESULTS, read_lines

README = RESULTS.parent.parent / "README.md"
DEFAULT_THREADS = 2
"""Of the machine that measured the default command."""
START, END = "<!-- results -->\n", "<!-- /results -->\n"


def latest(name: str) -> list[dict[str, Any]]:
    """Of each model, number of threads and seed the line that was measured last."""
    keys = ("model", "threads", "seed")
    return list({tuple(line[key] for key in keys): line for line in read_lines(name)}.values())


def default_runs() -> list[dict[str, Any]]:
    """Our runs with the default number of threads; the others are of earlier defaults."""
    return [line for line in latest("ml100k_accuracy") if line["threads"] == DEFAULT_THREADS]


def accuracy_table() -> str:
    """Test metrics on ml-100k, mean and standard deviation over seeds."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for line in [*latest("stock_recbole"), *default_runs()]:
        groups.setdefault((line["model"], line["threads"]), []).append(line)
    rows = [
        "| ml-100k | threads | seeds | valid NDCG@10 | test NDCG@10 | Hit@10 | MRR@10 | MACs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (model, threads), lines in groups.items():
        names = ("valid_ndcg", "test_ndcg", "test_hit", "test_mrr")
        cells = [_spread(lines, f"{name}@10") for name in names]
        share = mean(line.get("mean_macs_share", 1.0) for line in lines)
        seeds = ", ".join(str(line["seed"]) for line in lines)
        rows.append(f"| {model} | {threads} | {seeds} | {' | '.join(cells)} | {share:.0%} |")
    return "\n".join(rows)


def _spread(lines: list[dict[str, Any]], name: str) -> str:
    values = [line[name] for line in lines]
    return f"{mean(values):.4f} ± {stdev(values):.4f}" if len(values) > 1 else f"{values[0]:.4f}"


def structures_table() -> str:
    """Keep rate per block and users of each structure, one row per seed."""
    rows = [
        "| seed | seconds | keep rate per block | users of each structure |",
        "|---|---|---|---|",
    ]
    for line in default_runs():
        if line["model"] == "ForwardOFA":
            rates = ", ".join(f"{rate:.2f}" for rate in line["keep_rate"])
            counts = ", ".join(f"{name}: {count}" for name, count in line["structures"].items())
            rows.append(f"| {line['seed']} | {line['seconds']:.0f} | {rates} | {counts} |")
    return "\n".join(rows)


def speed_table() -> str:
    """Seconds per epoch of the latest side-by-side run."""
    lines = read_lines("speed")[-4:]
    slowest = lines[0]["seconds_per_epoch"]
    rows = [
        "| ml-100k | steps an epoch | s an epoch | first row / this | this / static |",
        "|---|---|---|---|---|",
    ]
    for line in lines:
        seconds = line["seconds_per_epoch"]
        rows.append(
            f"| {line['way']} | {line['steps_per_epoch']} | {seconds:.1f} | "
            f"{slowest / seconds:.1f} | {line['ratio_to_static']:.2f} |"
        )
    return "\n".join(rows)


def origin(lines: list[dict[str, Any]]) -> str:
    """Commands, commits and the machine of a table's lines."""
    commands = "\n".join(dict.fromkeys(line["command"] for line in lines))
    commits = ", ".join(dict.fromkeys(line["commit"] for line in lines))
    threads = " and ".join(dict.fromkeys(str(line["threads"]) for line in lines))
    one = lines[-1]
    versions = ", ".join(f"{package} {version}" for package, version in one["versions"].items())
    return (
        f"```bash\n{commands}\n```\n\nCommits {commits}; {one['hardware']}, threads: {threads}; "
        f"Python {one['python']}, {versions}."
    )


def results() -> str:
    """The whole section."""
    return f"""## Results

### Accuracy

Leave-one-out in the order of time, all 1,682 items ranked, items of the history not masked, the
epoch with the best validation score is tested; MACs are those of the blocks. "RecBole SASRec" is
RecBole's own class, trainer and augmentation with its default hyper-parameters but batches of 256,
stopped after 5 epochs without a better validation NDCG@10. The learning rate, its decay, the
dropouts, the batch size and the length of windows of ForwardOFA were chosen on validation scores,
in about 25 short runs on the same data; the static backbone has the same settings. RecBole's SASRec
was not tuned, so its row is what its users get, not the best that it can do: more tuning went into
our rows than into its.

With 943 users one standard error of NDCG@10 is about 0.005, and another number of threads is as
good as another seed. **On test users ForwardOFA is ahead of RecBole's SASRec with each of the three
seeds, on validation users it is behind on average; neither is beyond noise. Of the static backbone
it is ahead with two seeds of three, at two thirds of the blocks' MACs.** What it saves for certain
is compute on the device and time in training.

{accuracy_table()}

{origin(default_runs())}

{origin(latest("stock_recbole"))}

Whole runs of ForwardOFA, from the command to the last line, and the structures of the test users:

{structures_table()}

### Speed of training

Each in a process of its own, in turns while the others wait, the median of the rounds. With all
four in one process, as in the eight lines before these in `benchmarks/results/speed.jsonl`,
ForwardOFA took 16.1 and 15.8 s an epoch, 2.3 times the static backbone.

{speed_table()}

{origin(read_lines("speed")[-4:])}
"""


def main() -> None:
    text = results()
    if "--write" not in sys.argv:
        print(text)
        return
    before, rest = README.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    README.write_text(f"{before}{START}{text}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
