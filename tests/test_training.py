"""Runs of seconds through the public entry: results, checkpoints, resume, errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from recbole.model.sequential_recommender.sasrec import SASRec
from small import cycle_settings, known_to, planted_settings, trainer_of

from recbole_fofa.errors import CheckpointError, ConfigError, TrainingDivergedError
from recbole_fofa.model.backbone import BACKBONES
from recbole_fofa.model.weights import dense_parameters
from recbole_fofa.quick_start import (
    checked_config,
    load_data_and_model,
    prepare_data,
    run_recbole_fofa,
)
from recbole_fofa.recommender.forward_ofa import ForwardOFA
from recbole_fofa.registry import get_model, get_trainer
from recbole_fofa.trainer.checkpoint import load_checkpoint
from recbole_fofa.trainer.forward_ofa import ForwardOFATrainer
from recbole_fofa.trainer.progress import EpochProgress


def only_checkpoint(tmp_path: Path, ending: str = "[0-9].pth") -> Path:
    (path,) = (tmp_path / "out" / "saved").glob(f"*{ending}")
    return path


@pytest.mark.parametrize("backbone", BACKBONES)
def test_planted_rule_is_found(tmp_path: Path, backbone: str) -> None:
    result = run_recbole_fofa(config_dict=planted_settings(tmp_path, backbone=backbone))
    assert result["test_result"]["ndcg@10"] > 0.95
    written = json.loads((tmp_path / "out" / "result.json").read_text())
    assert written["test_result"] == result["test_result"]
    assert written["structures"]["n_users"] == 60
    assert len(written["structures"]["keep_rate"]) == 2


def test_same_seed_same_result_and_everything_is_written(tmp_path: Path) -> None:
    first = run_recbole_fofa(config_dict=cycle_settings(tmp_path))
    second = run_recbole_fofa(config_dict=cycle_settings(tmp_path, output_dir=str(tmp_path / "b")))
    assert first == second
    assert set(first) == {
        "best_valid_score",
        "valid_score_bigger",
        "best_valid_result",
        "test_result",
    }
    resolved = yaml.safe_load(only_checkpoint(tmp_path, ".config.yaml").read_text())
    assert resolved["epochs"] == {"value": 2, "source": "config_dict"}
    assert load_checkpoint(only_checkpoint(tmp_path))["config"]["model"] == "ForwardOFA"


def test_reloaded_model_gives_equal_scores(tmp_path: Path) -> None:
    result = run_recbole_fofa(config_dict=cycle_settings(tmp_path))
    config, model, *_, test = load_data_and_model(only_checkpoint(tmp_path))
    trainer = get_trainer(config)(config, model)
    assert trainer.evaluate(test, load_best_model=False) == result["test_result"]


def test_a_checkpoint_from_before_the_repeat_bias_is_what_it_was(tmp_path: Path) -> None:
    settings = cycle_settings(tmp_path, repeat_bias="none")
    result = run_recbole_fofa(config_dict=settings)
    path = only_checkpoint(tmp_path)
    state = torch.load(path, weights_only=True)
    names = "repeat_bias", "repeat_seq_length", "repeats_as_negatives", "mapper_dropout"
    for name in names:
        del state["config"][name]
    torch.save(state, path)
    config, model, *_, test = load_data_and_model(path)
    trainer = get_trainer(config)(config, model)
    assert trainer.evaluate(test, load_best_model=False) == result["test_result"]


@pytest.mark.parametrize("regime", ["session", "prefix"])
def test_resume_continues_bit_for_bit(tmp_path: Path, regime: str) -> None:
    straight, loaders = trainer_of(tmp_path / "a", epochs=4, train_regime=regime)
    straight.fit(*loaders[:2])
    half, loaders = trainer_of(tmp_path / "b", epochs=2, train_regime=regime)
    half.fit(*loaders[:2])
    resumed, loaders = trainer_of(tmp_path / "b", epochs=4, train_regime=regime)
    resumed.resume_checkpoint(half.last_model_file)
    resumed.fit(*loaders[:2])
    expected = straight.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert resumed.best_valid_score == straight.best_valid_score


def test_resuming_a_finished_run_trains_nothing_and_loses_nothing(tmp_path: Path) -> None:
    settings = cycle_settings(tmp_path, epochs=4, learning_rate=0.05)
    result = run_recbole_fofa(config_dict=settings)
    best, last = only_checkpoint(tmp_path), only_checkpoint(tmp_path, "-last.pth")
    before = best.read_bytes(), last.read_bytes()
    again = run_recbole_fofa(config_dict={**settings, "resume_from": str(last)})
    assert again == result
    assert (best.read_bytes(), last.read_bytes()) == before
    assert len(list(best.parent.glob("*.config.yaml"))) == 1


def test_metrics_of_training_counts_are_there_in_a_finished_run_too(tmp_path: Path) -> None:
    """RecBole counts the training items when it trains, and here nothing is trained any more."""
    settings = cycle_settings(tmp_path, metrics=["NDCG", "ItemCoverage", "AveragePopularity"])
    result = run_recbole_fofa(config_dict=settings)
    last = only_checkpoint(tmp_path, "-last.pth")
    assert run_recbole_fofa(config_dict={**settings, "resume_from": str(last)}) == result


def test_best_checkpoint_holds_its_own_result(tmp_path: Path) -> None:
    result = run_recbole_fofa(config_dict=cycle_settings(tmp_path, epochs=4, learning_rate=0.05))
    state = load_checkpoint(only_checkpoint(tmp_path))
    assert state["best_valid_result"] == result["best_valid_result"]
    assert state["best_valid_score"] == result["best_valid_score"]


def test_resume_needs_the_best_epoch_and_the_same_items(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path, epochs=1)
    trainer.fit(*loaders[:2])
    data = Path(cycle_settings(tmp_path)["dataset"])
    header, *rows = data.read_text().splitlines()
    data.write_text("\n".join([header, *reversed(rows)]) + "\n")
    other, other_loaders = trainer_of(tmp_path, epochs=2)
    other.resume_checkpoint(trainer.last_model_file)
    with pytest.raises(CheckpointError, match="trained on other items"):
        other.fit(*other_loaders[:2])
    with pytest.raises(CheckpointError, match="trained on other items"):
        load_data_and_model(trainer.saved_model_file)
    Path(trainer.saved_model_file).unlink()
    with pytest.raises(CheckpointError, match="needs the file of the best epoch beside it"):
        other.resume_checkpoint(trainer.last_model_file)


def test_runs_of_one_second_have_checkpoints_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recbole.trainer.trainer.get_local_time", lambda: "Nov-25-2026_00-00-00")
    paths = set()
    for _ in range(2):
        trainer, loaders = trainer_of(tmp_path, epochs=1)
        trainer.fit(*loaders[:2])
        paths.add(trainer.saved_model_file)
    assert len(paths) == 2


def test_update_that_is_not_finite_stops_before_anything_is_saved(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path, epochs=1)
    trainer.fit(*loaders[:2])
    good = Path(trainer.saved_model_file).read_bytes(), trainer.last_model_file.read_bytes()
    trainer.start_epoch, trainer.epochs, trainer.learning_rate = 1, 2, 1e30
    with pytest.raises(TrainingDivergedError, match=r"epoch 1, step \d+"):
        trainer.fit(*loaders[:2])
    assert (
        Path(trainer.saved_model_file).read_bytes(),
        trainer.last_model_file.read_bytes(),
    ) == good


class DerivedOFA(ForwardOFA):
    """A model of a user's own."""


def test_a_derived_class_has_our_trainer_and_can_be_loaded(tmp_path: Path) -> None:
    result = run_recbole_fofa(DerivedOFA, config_dict=cycle_settings(tmp_path))
    config, model, *_, test = load_data_and_model(only_checkpoint(tmp_path), DerivedOFA)
    assert get_trainer(config) is ForwardOFATrainer and type(model) is DerivedOFA
    trainer = get_trainer(config)(config, model)
    assert trainer.evaluate(test, load_best_model=False) == result["test_result"]


def test_users_are_counted_once_where_candidates_are_sampled(tmp_path: Path) -> None:
    settings = cycle_settings(tmp_path, epochs=1, eval_args={"mode": "uni5"})
    run_recbole_fofa(config_dict=settings)
    structures = json.loads((tmp_path / "out" / "result.json").read_text())["structures"]
    assert structures["n_users"] == 60


def test_quiet_lets_data_warnings_through(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = cycle_settings(tmp_path, epochs=0)
    data = Path(settings["dataset"])
    header, *rows = data.read_text().splitlines()
    data.write_text("\n".join([header, *rows, *rows]) + "\n")
    run_recbole_fofa(config_dict=settings)
    assert "WARNING" in (shown := capfd.readouterr().err) and "duplicate" in shown


def test_diverged_run_names_the_block_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path, epochs=1)
    trainer.fit(*loaders[:2])
    good = Path(trainer.saved_model_file).read_bytes()
    with torch.no_grad():
        trainer.model.network.base[1].query_bias[0] = torch.inf
    trainer.start_epoch, trainer.epochs = 1, 2
    with pytest.raises(TrainingDivergedError, match=r"epoch 1, step 1: .*base\.1\.query_bias"):
        trainer.fit(*loaders[:2])
    assert Path(trainer.saved_model_file).read_bytes() == good


def test_checkpoints_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path, epochs=1)
    trainer.fit(*loaders[:2])
    path = Path(trainer.saved_model_file)
    (tmp_path / "cut.pth").write_bytes(path.read_bytes()[:1000])
    torch.save({"config": Path("x"), "state_dict": {}}, tmp_path / "code.pth")
    for name, message in [
        ("cut.pth", "damaged"),
        ("code.pth", "more than tensors"),
        ("none.pth", "no checkpoint"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(tmp_path / name)
    other, _ = trainer_of(tmp_path, hidden_size=32)
    with pytest.raises(CheckpointError, match=r"does not fit .*: hidden_size \(.* -> 32\)\. Set"):
        other.resume_checkpoint(path)


def test_one_step_moves_exactly_the_intended_parameters(tmp_path: Path) -> None:
    changes = {"learner": "sgd", "learning_rate": 0.1, "learning_rate_warmup_epochs": 0.0}
    trainer, (train, *_) = trainer_of(tmp_path, **changes)
    model = trainer.model.train()
    batches = list(train)[:2]
    for batch in batches:
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        torch.manual_seed(5)
        model.zero_grad()
        sum(model.calculate_loss(batch)).backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        torch.manual_seed(5)
        trainer._train_epoch(OneBatch(batch), 0)
        for name, value in model.named_parameters():
            torch.testing.assert_close(value, before[name] - 0.1 * gradients[name])


class OneBatch(list):
    """A loader of one batch."""

    def __init__(self, batch: Any) -> None:
        super().__init__([batch])


def test_generated_parameters_of_two_users_differ_after_one_epoch(tmp_path: Path) -> None:
    trainer, loaders = trainer_of(tmp_path, epochs=1)
    trainer.fit(*loaders[:2])
    interaction = next(iter(loaders[2]))[0]
    adaptation = trainer.model.adapt(*trainer.model._behaviour(interaction))
    kept = dense_parameters(next(p for p in adaptation.parameters if p is not None))
    assert (kept["query_weight"][0] - kept["query_weight"][1]).abs().max() > 1e-5


@pytest.mark.parametrize("form", [None, "residual", "low_rank"])
def test_everything_kept_and_a_constant_mapper_give_recboles_scores(
    tmp_path: Path, form: str | None
) -> None:
    """Without controller and mapper, or with both but a mapper that changes nothing."""
    changes = {"use_controller": False, "use_mapper": False}
    if form is not None:
        changes = {"mapper_form": form, "keep_bias": 10.0}
    config = checked_config(config_dict=cycle_settings(tmp_path, **changes))
    _, _, test = prepare_data(config)
    theirs = SASRec(config, test._dataset).eval()
    ours = ForwardOFA(config, test._dataset).eval()
    copy_sasrec(theirs, ours)
    if form is not None:
        make_constant(ours.network.mapper)
    interaction = next(iter(test))[0]
    torch.testing.assert_close(
        ours.full_sort_predict(interaction),
        theirs.full_sort_predict(interaction),
        atol=1e-5,
        rtol=0,
    )


def test_loss_of_the_first_step_is_that_of_recboles_sasrec(tmp_path: Path) -> None:
    """The generated network starts as good as a static one: within 5 %."""
    losses = []
    for model in ("ForwardOFA", "SASRec"):
        settings = cycle_settings(tmp_path, train_regime="prefix")
        config = checked_config(model, config_dict=known_to(model, settings))
        train, *_ = prepare_data(config)
        torch.manual_seed(2)
        network = config.model_class(config, train._dataset)
        loss = network.calculate_loss(next(iter(train)))
        losses.append((loss[0] if isinstance(loss, tuple) else loss).item())
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def make_constant(mapper: Any) -> None:
    """Let the mapper give the base to everybody."""
    with torch.no_grad():
        for hypernetwork in mapper.hypernetworks:
            hypernetwork.basis.zero_()
            for left in getattr(hypernetwork, "left", {}).values():
                left.zero_()
        for bias in (mapper.to_output_bias, mapper.to_repeat_bias):
            for parameter in bias.parameters():
                parameter.zero_()


def copy_sasrec(theirs: Any, ours: Any) -> None:
    own = ours.network.backbone
    with torch.no_grad():
        ours.item_embedding.weight.copy_(theirs.item_embedding.weight)
        own.position_embedding.weight.copy_(theirs.position_embedding.weight)
        own.input_norm.load_state_dict(theirs.LayerNorm.state_dict())
        for base, layer in zip(ours.network.base, theirs.trm_encoder.layer, strict=True):
            attention, forward = layer.multi_head_attention, layer.feed_forward
            for name, module in {
                "query": attention.query,
                "key": attention.key,
                "value": attention.value,
                "dense": attention.dense,
                "mixing_norm": attention.LayerNorm,
                "dense_1": forward.dense_1,
                "dense_2": forward.dense_2,
                "feed_forward_norm": forward.LayerNorm,
            }.items():
                base[f"{name}_weight"].copy_(module.weight)
                base[f"{name}_bias"].copy_(module.bias)


@pytest.mark.parametrize("loss", ["CE", "BCE", "BPR"])
@pytest.mark.parametrize("regime", ["session", "prefix"])
def test_losses_and_regimes_run(tmp_path: Path, loss: str, regime: str) -> None:
    settings = cycle_settings(tmp_path, loss_type=loss, train_regime=regime, epochs=1)
    assert run_recbole_fofa(config_dict=settings)["test_result"]["ndcg@10"] >= 0


@pytest.mark.parametrize(
    "change",
    [
        {"use_controller": False},
        {"use_mapper": False},
        {"structure_guided": False},
        {"parallel_mappers": False},
        {"mapper_form": "full"},
        {"mapper_form": "residual"},
        {"budget_aware": True, "budget": 0.5},
    ],
)
def test_ablations_run(tmp_path: Path, change: dict[str, Any]) -> None:
    settings = cycle_settings(tmp_path, epochs=1, **change)
    run_recbole_fofa(config_dict=settings)
    structures = json.loads((tmp_path / "out" / "result.json").read_text())["structures"]
    if "budget" in change:
        assert structures["mean_macs_share"] <= 0.5


RECBOLE_MODELS = """SASRec GRU4Rec NextItNet Caser LightSANs FEARec BPR LightGCN EASE ItemKNN Pop
Random""".split()


def test_budgets_in_training_reach_from_one_block_to_all(tmp_path: Path) -> None:
    trainer, _ = trainer_of(tmp_path, budget_aware=True, n_layers=4)
    shares = trainer.model.train()._default_budget(200)
    assert shares.unique().tolist() == pytest.approx([0.25, 0.5, 0.75, 1.0])
    behaviour = torch.randint(1, 16, (200, 8))
    lengths = torch.full((200,), 8)
    with torch.no_grad():
        trainer.model.network.controller.head.bias.copy_(torch.tensor([-9.0, 9.0] * 4))
    kept = trainer.model.adapt(behaviour, lengths, shares).structure.sum(1)
    assert torch.equal(kept, (shares * 4).float())


def test_pairwise_loss_without_negatives_is_refused(tmp_path: Path) -> None:
    trainer, (train, *_) = trainer_of(tmp_path, loss_type="BPR")
    batch = next(iter(train))
    del batch.interaction["session_negatives"]
    with pytest.raises(ConfigError, match="needs sampled negatives"):
        trainer.model.calculate_loss(batch)


@pytest.mark.parametrize("model", RECBOLE_MODELS)
def test_recboles_models_run(tmp_path: Path, model: str) -> None:
    settings = known_to(model, cycle_settings(tmp_path, epochs=1))
    assert run_recbole_fofa(model, config_dict=settings)["test_result"]["ndcg@10"] > 0


def test_history_is_not_ranked_if_masked(tmp_path: Path) -> None:
    trainer, (_, _, test) = trainer_of(tmp_path, mask_history=True)
    trainer.evaluate(test, load_best_model=False)
    batch = next(iter(test))
    _, scores, *_ = trainer._full_sort_batch_eval(batch)
    histories = test._dataset.histories
    for row, position in enumerate(batch[0]["history_position"].tolist()):
        seen = histories.items[histories.starts[position] : position]
        assert len(seen) > batch[0]["item_id_list"].shape[1]  # longer than the input
        banned = (scores[row] == -torch.inf).nonzero().flatten().tolist()
        assert set(banned) == {0, *seen.tolist()}


def test_our_trainer_is_found_and_unknown_models_are_named(tmp_path: Path) -> None:
    assert get_trainer(checked_config(config_dict=cycle_settings(tmp_path))) is ForwardOFATrainer
    for name in ("SASRek", "sasrec"):
        with pytest.raises(ConfigError, match=f"unknown model '{name}'; did you mean 'SASRec'"):
            get_model(name)
    with pytest.raises(ConfigError, match="LightGBM is not supported"):
        get_model("LightGBM")


def test_a_run_imports_what_it_uses_only(tmp_path: Path) -> None:
    """Not ray, nor scikit-learn before one of the metrics that RecBole takes from it."""
    script = (
        "import sys; from recbole_fofa.quick_start import run_recbole_fofa\n"
        f"run_recbole_fofa(config_dict={cycle_settings(tmp_path, epochs=1)!r})\n"
        "assert not {'ray', 'sklearn'} & sys.modules.keys()\n"
        "from recbole.evaluator.metrics import sk_auc\n"
        "print(sk_auc([0, 1], [0, 0.5]), 'sklearn.metrics._ranking' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "0.25 True\n", done.stderr


def test_the_command_line_reports_faults() -> None:
    command = [sys.executable, "run_recbole_fofa.py", "--hiden_size=32", "--topk=5000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown setting 'hiden_size'; did you mean 'hidden_size'?" in done.stderr
    assert "5000" in done.stderr
    assert "Traceback" not in done.stderr


def test_progress_bar_shows_loss_and_keep_rate(capsys: pytest.CaptureFixture[str]) -> None:
    batches = [1, 2]
    with EpochProgress(batches, 3, shown=True) as progress:
        for _ in progress:
            progress.show((torch.tensor(1.5), torch.tensor(0.25)), None, torch.tensor(0.625))
    shown = capsys.readouterr().err
    assert "Train     3" in shown and "loss 1.7500, keep 0.62" in shown and "2/2" in shown


def test_evaluation_in_chunks_generates_for_as_many_users_and_scores_the_same(
    tmp_path: Path,
) -> None:
    trainer, (_, _, test) = trainer_of(tmp_path, mapper_form="full")
    model = trainer.model.eval()
    interaction = next(iter(test))[0]
    seen: list[int] = []
    model.network.mapper.hypernetworks[0].register_forward_hook(
        lambda _, inputs, __: seen.append(len(inputs[0]))
    )
    with torch.no_grad():
        whole = model.full_sort_predict(interaction)
        model.settings = model.settings.model_copy(update={"adapt_chunk": 7})
        in_chunks = model.full_sort_predict(interaction)
    assert seen[0] == len(interaction) == 60
    assert set(seen[1:]) == {7, 60 % 7} and sum(seen[1:]) == 60
    torch.testing.assert_close(in_chunks, whole, atol=1e-5, rtol=1e-5)


def test_evaluation_away_from_the_cpu_takes_larger_chunks(tmp_path: Path) -> None:
    trainer, _ = trainer_of(tmp_path, adapt_chunk=7)
    model = trainer.model
    assert model.users_at_once(60) == 7
    model.settings = model.settings.model_copy(update={"adapt_chunk": None})
    assert model.users_at_once(60) == 60
    model.to("meta")
    assert model.users_at_once(60) >= 60
    model.settings = model.settings.model_copy(update={"adapt_chunk": 7})
    assert model.users_at_once(60) == 16 * 7
