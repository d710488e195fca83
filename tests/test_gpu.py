"""The GPU gives the CPU's numbers: losses, lists, payloads.

    FOFA_TEST_GPU=1 python -m pytest tests/test_gpu.py

Without that variable, and where torch finds no GPU, they are skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ring_bundle import bundle_of
from small import cycle_settings, trainer_of

from recbole_fofa import load
from recbole_fofa.command_line import main
from recbole_fofa.quick_start import load_data_and_model, run_recbole_fofa
from recbole_fofa.trainer.checkpoint import load_checkpoint

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

DRY = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}
# Without a draw in training, so that both can be compared: a GPU draws other numbers.
MODELS: dict[str, dict[str, Any]] = {
    "ForwardOFA": {"use_controller": False},
    "static": {"use_controller": False, "use_mapper": False},
    "DUET": {"model": "DUET"},
    "gru4rec": {"use_controller": False, "backbone": "gru4rec"},
    "nextitnet": {"use_controller": False, "backbone": "nextitnet"},
    "fmlprec": {"use_controller": False, "backbone": "fmlprec"},
    "SASRec": {"model": "SASRec", "loss_type": "CE", "train_neg_sample_args": None},
}


def trained(folder: Path, **changes: Any) -> tuple[dict[str, Any], Any]:
    """Losses and metrics of two epochs, and the trainer."""
    settings = {**DRY, **changes}
    model = settings.pop("model", None)
    trainer, (train, valid, test) = trainer_of(folder, model, **settings)
    trainer.fit(train, valid)
    found = {"losses": list(trainer.train_loss_dict.values()), "test": trainer.evaluate(test)}
    return found, trainer


@pytest.mark.parametrize("name", MODELS)
def test_training_gives_the_cpus_losses(tmp_path: Path, name: str) -> None:
    ours, trainer = trained(tmp_path / "gpu", **MODELS[name])
    theirs, _ = trained(tmp_path / "cpu", use_gpu=False, **MODELS[name])
    assert trainer.device.type == next(trainer.model.parameters()).device.type == "cuda"
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-3)


@pytest.mark.parametrize("changes", [{}, {"budget_aware": True, "budget": 0.5}])
def test_a_checkpoint_of_the_gpu_has_the_same_metrics_on_the_cpu(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    found, trainer = trained(tmp_path, **changes)
    _, model, _, _, _, test = load_data_and_model(trainer.saved_model_file)
    assert model.device.type == "cuda"
    trainer, _ = trainer_of(tmp_path, use_gpu=False, **DRY, **changes)
    state = load_checkpoint(trainer_file(tmp_path))
    trainer.model.load_state_dict(state["state_dict"])
    trainer.model.load_other_parameter(state["other_parameter"])
    assert trainer.model.device.type == "cpu"
    assert trainer.evaluate(test, load_best_model=False) == pytest.approx(found["test"], abs=1e-4)


def trainer_file(folder: Path) -> Path:
    (best,) = (p for p in folder.glob("out/**/*.pth") if not p.name.endswith("-last.pth"))
    return best


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """With the GPU's own draws; its sums may differ in the last digits from run to run."""
    wet = {"hidden_dropout_prob": 0.5}
    straight, _ = trained(tmp_path / "straight", epochs=4, **wet)
    _, stopped = trained(tmp_path / "stopped", epochs=2, **wet)
    trainer, (train, valid, _) = trainer_of(tmp_path / "stopped", epochs=4, **{**DRY, **wet})
    trainer.resume_checkpoint(stopped.last_model_file)
    trainer.fit(train, valid)
    losses = list(trainer.train_loss_dict.values())
    assert losses[-2:] == pytest.approx(straight["losses"][-2:], rel=1e-3)


@pytest.mark.parametrize("model", ["ForwardOFA", "DUET", "SASRec"])
def test_recommendations_are_the_cpus(tmp_path: Path, model: str) -> None:
    bundle = bundle_of(tmp_path, model)
    histories = [["i1", "i3", "i5"], ["i2"], [], ["i14", "i0"] * 6]
    on_gpu, on_cpu = (load(bundle, device=name) for name in ("cuda", "cpu"))
    assert on_gpu.model.device.type == "cuda"
    for ours, theirs in zip(
        on_gpu.recommend(histories, 5), on_cpu.recommend(histories, 5), strict=True
    ):
        assert ours.scores == pytest.approx(theirs.scores, abs=1e-4)
        assert set(ours.items) == set(theirs.items)


def test_export_and_the_device_report_of_a_model_on_the_gpu(tmp_path: Path) -> None:
    """``export`` itself compares each written file's scores with the model's."""
    run_recbole_fofa(config_dict=cycle_settings(tmp_path))
    words = ["--checkpoint", str(trainer_file(tmp_path)), "--output_dir"]
    assert main(["export", *words, str(tmp_path / "devices"), "--report", "3", "-q"]) == 0
    assert main(["device-eval", *words, str(tmp_path / "report"), "-q"]) == 0
