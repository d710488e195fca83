"""The README's first table and section of results, and ``docs/results.md``, from ``results/``.

python benchmarks/report.py            # prints them
python benchmarks/report.py --write    # writes them, and the README's figure
python benchmarks/report.py --check    # whether they are what the lines say
"""

from __future__ import annotations

import sys
from pathlib import Path

import device_tables
import training_tables
from details import details
from opening_figure import write_figure
from record import ROOT, read_lines
from summary import summary
from table import origin

README, DETAILS = ROOT / "README.md", ROOT / "docs" / "results.md"
FIGURE = ROOT / "docs" / "figures" / "accuracy_vs_macs.svg"


def opening() -> str:
    """The README's first table."""
    return f"""Test NDCG@10. The best baseline is that of the static backbone in the same training
(input of 50 or 20 items), RecBole's SASRec (but on ml-100k) and DUET (on ml-100k, amazon-toys and
-beauty); MACs are relative to the static backbone that reads 50 items:

{summary()}

ForwardOFA learns **whether a user takes items again** (one number a user), which is most of the
gain; the static network, given one such number for all users, stands beside it, with an input of 50
items and with ForwardOFA's own 20. "Without history" leaves out of every model's ranking what the
user has had.
"""


def readme() -> str:
    """The README's section."""
    return f"""## Results

Each data set's tables, with every baseline and every p, are in [docs/results.md](docs/results.md),
and where the data come from, which are not part of this repository; so are the searches, gradient
conflict, other backbones, latency and costs of adaptation.

### Accuracy

Leave-one-out in the order of time; the epoch with the best validation NDCG@10 is tested. p are of
users' values on the seeds that are named, and say nothing of other seeds. ml-100k has five seeds,
the Amazon data and ml-1m have two of ForwardOFA and the static backbone, the rest one or two. One
setting for all of our models on a data set, no search (RecBole's SASRec has RecBole's); on the
Amazon data mapper dropout and repeats as negatives were chosen by validation scores on amazon-toys,
for ForwardOFA and for the static network that they apply to. On yelp, the one data set here in
which users come back to items, the repeat bias of both is calibrated by validation scores after
training.

* **Where all items are ranked, which is RecBole's protocol, ForwardOFA is ahead of every baseline
  on every data set and seed that was run: in the mean by 34 % and more, and by 18 % on yelp, at 26
  to 37 % of the full backbone's MACs a request.** (There is no p against RecBole's SASRec on
  amazon-beauty: its users' values were not kept.)
* **Most of that is the repeat bias**: what ForwardOFA has learned is not to offer again what a user
  has had, or, on yelp, to offer it first. RecBole's protocol counts those items, and networks that
  score by dot products alone rank them as they fall. The static backbone with one such number for
  all users is within chance of ForwardOFA on ml-1m (p = 0.9), amazon-toys (p = 1), amazon-beauty
  (1 % behind, p = 0.4) and amazon-sports (1 % ahead, p = 0.5; seed 1 throughout), at three to four
  times the MACs. **On yelp ForwardOFA is 2.4 % behind it** with seed 1 (p = 0.0006), **on ml-100k
  9 % ahead**, with each of five seeds (p = 0.01 on three of them, 0.1 on the other two).
* **Where histories are long, ForwardOFA is ahead of the static network of its own cost**, the one
  with the repeat bias and the same input of 20 items (2.07 M MACs, 37 %): by 11 % on ml-100k, with
  each of five seeds (p = 0.09 on two of them), and by 2.6 % on ml-1m (one seed, no p). On
  amazon-toys, where a history is hardly longer than that, the two are level at 29 % fewer MACs
  (0.4 % behind, two seeds; p = 1 on one of them).
* **Where items of the history are left out of the ranking**, by a filter behind every model,
  ForwardOFA is ahead on ml-100k (21 %) and ml-1m (7 %), where histories are long, and level with
  the best on the Amazon data (on amazon-sports, second seed, 4 % ahead, p = 0.016). **On yelp it is
  5 % behind there** (p = 0.2 with seed 2). Against 99 items that the user never had it is ahead on
  the MovieLens data, on yelp (3 %) and on the Amazon data (about 1 %).
* amazon-cds has RecBole's SASRec alone so far. The baselines are no weak ones: without items of the
  history, published SASRecs on these sequences have 0.031 to 0.032 on beauty, 0.018 to 0.019 on
  sports and 0.037 to 0.040 on toys (with another loss). On ml-1m RecBole's SASRec stopped after 41
  epochs at 0.116 (0.164 without history), below the static backbone in session training.

### One model, every budget

Four blocks. One budget-aware model, evaluated at each budget, beside static networks of one to four
blocks with the shared repeat bias, each trained alone with the same settings; ml-100k, test
NDCG@10, two seeds, where a difference of 0.005 says nothing. Cost grows with the budget and is
never over it. **The one model is level with the static networks**: in the mean 5 % ahead at a
quarter of the MACs and 2 to 3 % at the other budgets (with both seeds but at the whole budget; a
half and three quarters are not used up), on validation between 2 % ahead and 2 % behind. More
blocks are worth little on ml-100k to either. **Which user gets which is worth nothing there**: with
the structures shuffled over all users the score is 1 % higher at a half, and the same at the other
budgets.

{training_tables.budgets()}

{origin(training_tables.budget_lines())}

### What crosses the network

Every test user's device computes its uplink in numpy, receives its payload as a file, and ranks all
items in numpy. Two default blocks are 400 KB in fp32; users keep one or two. On ml-100k the devices
rank as the cloud does, to 0.03 % of NDCG@10 with int8; amazon-beauty was measured before the output
bias and the repeat bias, some 400 bytes in fp32.

{device_tables.payloads()}

{origin(device_tables.payload_lines())}

### Speed of training

Each in a process of its own, in turns while the others wait, the median of three rounds; other
programs kept the second core busy, so that only the ratios say something.

{training_tables.speed()}

{origin(read_lines("speed")[-4:])}

Time to the best validation NDCG@10 of RecBole's own SASRec, side by side on one thread. Its seconds
are those of one epoch, validation included, times the epochs that its finished run took to get
there. On ml-1m an epoch of its 480 steps is told from four, and other programs kept both cores busy
throughout, so that its seconds are too many for all rows:

{training_tables.time_to_quality()}

{origin(read_lines("time_to_quality"))}
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
