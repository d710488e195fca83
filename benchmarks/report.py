"""The README's section of results and ``docs/results.md``, from the lines in ``results/``.

python benchmarks/report.py            # prints both
python benchmarks/report.py --write    # writes both, and the README's figure
"""

from __future__ import annotations

import sys

import head_to_head_tables
import tables
from opening_figure import write_figure
from record import RESULTS, read_lines
from tables import origin, runs

ROOT = RESULTS.parent.parent
README, DETAILS = ROOT / "README.md", ROOT / "docs" / "results.md"
FIGURE = ROOT / "docs" / "figures" / "accuracy_vs_macs.svg"
DEFAULT_THREADS = 2
"""Of the machine that measured the whole default command."""
START, END = "<!-- results -->\n", "<!-- /results -->\n"


def readme() -> str:
    """The README's section."""
    return f"""## Results

More tables, among them gradient conflict, other backbones, latency and costs of adaptation, are in
[docs/results.md](docs/results.md).

### Accuracy

Leave-one-out in the order of time, the epoch with the best validation NDCG@10 is tested. All items
are ranked; then without those of the history; then the target and 99 items that the user never had,
the same for every model. MACs are those of a request at full input length, without scores; in
brackets relative to all blocks at that length.

**Amazon data** (one seed; one setting for all models but RecBole's, chosen on validation scores of
the static backbone on amazon-toys, no search): **trained to their end, the static network and
RecBole's SASRec (its defaults, 40 to 93 epochs, on a GPU) are as good as ForwardOFA or better.** On
amazon-beauty the three are level (0.043) where all items are ranked, ForwardOFA at a third of the
MACs of a request; without items of the history it is 3 % below the static network (p = 0.02). The
static network that reads 20 items costs as little and is 1.5 % lower, which is within chance (p =
0.6). On amazon-toys ForwardOFA is 4 % below RecBole's SASRec (p = 0.02), 8 % above DUET, and its
controller keeps all blocks for everybody. After fourteen epochs it had been 5.5 % above the static
network on beauty: it learns in fewer epochs, and not more. The baselines are no weak ones: without
items of the history published SASRecs on these sequences have 0.031 to 0.032 on beauty and 0.037 to
0.040 on toys (with another loss). amazon-sports has RecBole's SASRec alone so far. One seed says
nothing about other seeds.

**ml-100k** (two seeds, settings from an equal search, below; before batches were mixed): **nothing
is shown. ForwardOFA is ahead of both static networks by less than chance, and DUET, which keeps all
blocks, is ahead of it where all items are ranked (by 0.006, p = 0.7), behind it against 99 unseen
items (by 0.014, p = 0.1).** With 943 users one standard error is about 0.005, and two seeds of one
model differ by as much. The rows "ForwardOFA" and "DUET", which read 50 items, have the defaults
and were not searched. What ForwardOFA saves for certain is compute and bytes on the device, and
time in training.

{head_to_head_tables.head_to_head()}

What the search on ml-100k chose. Its ranges are in `benchmarks/plans/ml-100k-tuned.yaml`, it saw
validation scores alone, and its first trial is what was given. The seed of all trials is one that
is not in the table above.

{head_to_head_tables.searches()}

RecBole's own SASRec (its class, trainer and augmentation, default hyper-parameters but batches of
256, stopped after 5 epochs without a better validation NDCG@10) was not tuned, so this row is what
its users get, not the best that it can do:

{tables.stock()}

{origin(read_lines("stock_recbole"))}

What was measured before the output bias and the warm-up of the learning rate is in
[docs/results.md](docs/results.md); so are the models of the sections below (their commits say so).

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


def details() -> str:
    """``docs/results.md``."""
    others = [line for line in runs(1) if tables.other_backbone(line)]
    of_sasrec = [line for line in runs(1) if not tables.other_backbone(line)]
    return f"""# More results

Written by `python benchmarks/report.py --write` from the lines in `benchmarks/results`.

## Do structures pull the same parameters apart?

The paper's reason for separate, structure-conditioned mappers. Measured in training on ml-100k
(three blocks, three epochs, three seeds): cosines between the gradients that groups of users with
different structures send to the same parameters of a block and, as the yardstick, between halves of
a group with one structure. All gradients of mini-batch groups are noisy, so what counts is the
difference between the two.

With shared weights, groups of different structures agree less than halves of one group do (cosine
0.19 against 0.24, below zero in 25% against 18% of the pairs): there is a conflict, and it is
small. With parallel mappers of the full form the difference is gone (0.05 against 0.05), but all
cosines are lower than with shared weights: parameters that belong to single users share less to
agree on. With low-rank changes it is about halved. Cosines as such are highest where weights are
shared, so this is evidence for less of a structure's own conflict, and not for more agreement.

{tables.conflict()}

{origin(read_lines("gradient_conflict"))}

## Structures by default

Default settings, a device class without limits.

{tables.device_structures()}

{origin([x for x in read_lines("payload") if x["way"] == "low rank 16, fp32"])}

## Accuracy before the output bias and the warm-up

ml-100k as in the README, but the epoch with the best validation MRR@10, RecBole's default. DUET,
which keeps all blocks and generates two dense layers behind them, was ahead of ForwardOFA with each
seed, by less than a standard error (0.005); DUET with a trained generator is ahead of DUET as its
public code leaves it.

{tables.accuracy()}

{origin(of_sasrec)}

Whole default runs of ForwardOFA, from the command to the last line, and the structures of the test
users (before budgets became targets; the default has none):

{tables.structures(DEFAULT_THREADS)}

```bash
python benchmarks/ml100k_accuracy.py --ways ForwardOFA --seeds 1 2 3
```

## Other backbones

The default command with `--backbone`; ml-100k, one seed each, so that a difference of 0.005 means
nothing. The settings were chosen with SASRec's blocks. On filter blocks ForwardOFA is ahead of the
static network on validation and test, on recurrent blocks it is behind on both, on NextItNet's each
is ahead once.

{tables.backbones()}

{origin(others)}

## A request on the device

Milliseconds (p50) at batch 1 and input length 50, 100 candidates, one thread; in brackets the
ratio to all blocks of the same way, and to the dense static network in torch. "Masked in the cloud"
is how a batch is evaluated: the user's parameters as factors, dropped blocks not computed.

{tables.latency()}

{origin(read_lines("latency"))}

## To adapt, or to fine-tune

One forward adaptation, both sides and all checks of files included, against one epoch of
fine-tuning of the same network on the user's whole history, on the same thread. "prefixes" is how
RecBole and DUET train, one row for each prefix; "windows" is the least that one could do, one step
on the whole history at once. Memory is what the process grew by: 0 is what fits into what it had.

{tables.adaptation()}

{origin(read_lines("adaptation")[-3:])}

## Bulk adaptation

Users a second on one core, in batches of 256, with the bytes of each payload but no file.

{tables.throughput()}

{origin(read_lines("throughput")[-8:])}

## Lists for many histories

A file of histories to a file of lists (`recommend_many`), ml-100k's items, one core; the smallest
file first and last. "One call" is `recommend` for a single history.

{tables.serving()}

{origin(read_lines("serving")[-4:])}

## Many users, computed

From the costs above of one user on one core, {tables.INTERACTIONS_A_USER} interactions a user and
ml-100k's 1,682 items; an epoch is one of ForwardOFA in session training (the table in the README).
Nothing of this was run.

{tables.many_users()}
"""


def main() -> None:
    if "--write" not in sys.argv:
        print(readme() + details())
        return
    before, rest = README.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    README.write_text(f"{before}{START}{readme()}{END}{after}", encoding="utf-8")
    DETAILS.write_text(details(), encoding="utf-8")
    write_figure(FIGURE)


if __name__ == "__main__":
    main()
