"""The README's first table and section of results, and ``docs/results.md``, from ``results/``.

python benchmarks/report.py            # prints them
python benchmarks/report.py --write    # writes them, and the README's figure
python benchmarks/report.py --check    # whether they are what the lines say
"""

from __future__ import annotations

import sys
from pathlib import Path

import tables
from details import details
from opening_figure import write_figure
from record import RESULTS, read_lines
from summary import summary
from tables import origin

ROOT = RESULTS.parent.parent
README, DETAILS = ROOT / "README.md", ROOT / "docs" / "results.md"
FIGURE = ROOT / "docs" / "figures" / "accuracy_vs_macs.svg"


def opening() -> str:
    """The README's first table."""
    return f"""Test NDCG@10. The best baseline is that of the static backbone in the same training,
RecBole's SASRec and DUET; MACs are relative to the static backbone that reads 50 items:

{summary()}

ForwardOFA learns **whether a user takes items again** (one number a user); the static network,
given one such number for all users, stands beside it.
"""


def readme() -> str:
    """The README's section."""
    return f"""## Results

Each data set's tables, with every baseline and every p, are in
[docs/results.md](docs/results.md); so are the searches, gradient conflict, other backbones, latency
and costs of adaptation.

### Accuracy

PROSE

```bash
python benchmarks/significance.py
```

### One model, every budget

Four blocks. One budget-aware model per seed, evaluated at each budget, beside a static network of
that many blocks trained alone with the same settings; ml-100k, test NDCG@10, three seeds. Cost
grows with the budget and is never over it. **Within noise the one model is at or above each static
network.** Which user gets which blocks does not matter here: with structures shuffled over users
it is as good.

{tables.budgets()}

{origin(read_lines("budget_curve"))}

### What crosses the network

Every test user's device computes its uplink in numpy, receives its payload as a file, and ranks all
items in numpy. Two default blocks are 400 KB in fp32; users keep one or two.

{tables.payloads()}

{origin(read_lines("payload"))}

### Speed of training

Measured before batches were mixed, which costs the last two rows more time; not measured again.
Each in a process of its own, in turns while the others wait, the median of the rounds. With all
four in one process, as in the eight lines before these in `benchmarks/results/speed.jsonl`,
ForwardOFA took 16.1 and 15.8 s an epoch, 2.3 times the static backbone.

{tables.speed()}

{origin(read_lines("speed")[-4:])}
"""


def written() -> dict[Path, str]:
    """What the files are to hold."""
    readme_text = README.read_text(encoding="utf-8")
    for name, text in (("opening", opening()), ("results", readme())):
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        before, rest = readme_text.split(start)
        readme_text = f"{before}{start}{text}{end}{rest.split(end)[1]}"
    return {README: readme_text, DETAILS: details()}


def main() -> None:
    if len(sys.argv) == 1:
        print("\n".join((opening(), readme(), details())))
        return
    files = written()
    if "--write" in sys.argv:
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
        write_figure(FIGURE)
        return
    stale = [path for path, text in files.items() if path.read_text(encoding="utf-8") != text]
    if stale:
        sys.exit(f"not what the lines say: {', '.join(map(str, stale))}; run with --write")


if __name__ == "__main__":
    main()
