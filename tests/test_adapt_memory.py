"""Memory of generated parameters: linear in ``adapt_chunk``, whatever the batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small import write_cycle

PROGRAM = """
import sys
from pathlib import Path
import torch
from peak_memory import peak_bytes
from small import trainer_of
torch.set_num_threads(1)
chunk = int(sys.argv[1])
trainer, (_, _, test) = trainer_of(
    Path(sys.argv[2]), mapper_form="full", hidden_size=64, inner_size=256, adapt_chunk=chunk
)
model = trainer.model.eval()
rows = next(iter(test))[0]
rows = rows[torch.arange(720) % len(rows)]
with torch.no_grad():
    model.full_sort_predict(rows[:2])
    before = peak_bytes()
    model.full_sort_predict(rows)
print(peak_bytes() - before)
"""


@pytest.mark.slow
def test_peak_memory_is_linear_in_the_chunk(tmp_path: Path) -> None:
    """Parameters of all users at once would take ten times as much as those of 72."""
    write_cycle(tmp_path / "data")
    peaks = {}
    for chunk in (72, 144, 288, 720):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(chunk), str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
            env={"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parent.parent}"},
        )
        peaks[chunk] = int(done.stdout.split()[-1])
    generated = 2 * 49_984 * 4  # bytes a user: two blocks in float32
    for chunk, peak in peaks.items():
        assert 0.9 * chunk * generated < peak < 2.5 * chunk * generated + 60e6
    slope = (peaks[720] - peaks[144]) / (720 - 144)
    middle = peaks[144] + slope * (288 - 144)
    assert peaks[288] == pytest.approx(middle, rel=0.25)
