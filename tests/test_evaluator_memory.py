"""Memory of an evaluation: it grows neither with users nor with a matrix of users and items."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

MANY_USERS = """
import sys
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
sys.path[:0] = [{tests!r}, {root!r}]
from peak_memory import peak_bytes
from small import trainer_of
from recbole_fofa.data.sequences import Histories
from recbole_fofa.device_profile import DeviceProfile
from recbole_fofa.evaluator.cases import Cases
from recbole_fofa.evaluator.device_adaptation import DeviceAdaptationEvaluator
from recbole_fofa.evaluator.device_class import device_classes
from recbole_fofa.evaluator.per_user import per_user_writer
from recbole_fofa.evaluator.quality import CaseMetrics
from recbole_fofa.evaluator.task import Task

folder = Path({folder!r})
model = trainer_of(folder)[0].model
n_users, length = 100_000, 6
users = np.repeat(np.arange(1, n_users + 1), length)
histories = Histories.of(users, np.random.default_rng(0).integers(1, 16, len(users)))
positions = np.arange(length - 1, len(users), length)
names = ["[PAD]", *(f"u{{u}}" for u in range(n_users))]
tokens = ["[PAD]", *(f"i{{i}}" for i in range(15))]
cases = Cases(positions, histories, np.arange(len(users)), names, tokens)
metrics = CaseMetrics(["NDCG", "Hit"], [10])
free = [DeviceProfile(name="free")]
(free,) = device_classes(model, free, tokens)
evaluator = DeviceAdaptationEvaluator(model, [free], free, metrics, ages=[2])

def peak(cases):
    with per_user_writer(folder / "per_user.csv.gz", metrics.names) as on_cases:
        rows = [*evaluator.rows(Task(cases), on_cases), *evaluator.staleness(Task(cases))]
    assert all(row.n == len(cases) for row in rows)
    return peak_bytes()

few = peak(cases.only(np.arange(n_users) < 5_000))
print(peak(cases) - few)
"""

MANY_ITEMS = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path[:0] = [{tests!r}, {root!r}]
from peak_memory import peak_bytes
from small import trainer_of
from recbole_fofa.device_profile import DeviceProfile
from recbole_fofa.evaluator.evaluate import evaluate_on_devices
from recbole_fofa.evaluator.prepare import Options

folder = Path({folder!r})
path = folder / "wide.inter"
n_users, n_items = 2_000, 200_000
with path.open("w") as file:
    file.write("user_id:token\\titem_id:token\\ttimestamp:float\\n")
    for row in range(n_items):
        file.write(f"{{row % n_users}}\\t{{row * 7919 % n_items}}\\t{{row}}\\n")
trainer, (train, _, test) = trainer_of(
    folder, dataset=str(path), hidden_size=64, inner_size=256, MAX_ITEM_LIST_LENGTH=50
)
options = Options([DeviceProfile(name="free")], ages=(), mask_history=True)
report = evaluate_on_devices(trainer.model, train, test, options, folder / "report")
assert report.protocol["n_items"] == n_items and report.protocol["n_cases"] == n_users
print(peak_bytes())
"""


def last_number(script: str, folder: Path) -> int:
    """What a script prints last, run in a process of its own."""
    text = script.format(tests=str(TESTS), root=str(TESTS.parent), folder=str(folder))
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.split()[-1])


@pytest.mark.slow
def test_memory_does_not_grow_with_users(tmp_path: Path) -> None:
    """95,000 more users, less than 16 MB more."""
    assert last_number(MANY_USERS, tmp_path) < 16e6


@pytest.mark.slow
def test_200000_items_are_ranked_under_a_gigabyte(tmp_path: Path) -> None:
    """The whole process, torch and the data included; scores of all would be 1.6 GB alone."""
    assert last_number(MANY_ITEMS, tmp_path) < 1e9
