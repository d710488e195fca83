"""Settings of the whole suite: one thread, few and reproducible examples, no anomaly mode."""

from __future__ import annotations

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("suite", max_examples=30, deadline=None, derandomize=True)
hypothesis.settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
