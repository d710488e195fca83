"""Settings of the whole suite: one thread, few and reproducible examples, no anomaly mode."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import hypothesis
import pytest

# Before torch asks for GPUs: tests give the CPU's numbers on every machine, but for test_gpu.py.
if "FOFA_TEST_GPU" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch
from configs import get_model
from ring_bundle import bundle_of
from small import trainer_of

from recbole_fofa import load
from recbole_fofa.serving.recommend import Recommender

hypothesis.settings.register_profile("suite", max_examples=30, deadline=None, derandomize=True)
hypothesis.settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Models of ``configs.py`` in the registry; a folder and arguments that matter to nobody."""
    module = types.ModuleType("recbole_fofa.registry")
    module.get_model = get_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prog", "--epochs=77", "--tb=short"])


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of two epochs, for tests that change nothing in it."""
    folder = tmp_path_factory.mktemp("trained")
    trainer, loaders = trainer_of(folder, epochs=2)
    trainer.fit(*loaders[:2])
    return folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a short run; not to be changed."""
    return bundle_of(tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="session")
def recommender(bundle: Path) -> Recommender:
    """From that bundle; not to be changed."""
    return load(bundle, device="cpu")
