"""One call from a name to a result, as RecBole's quick start, but without ray."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from logging import INFO, WARNING, getLogger
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from recbole.utils import init_seed, set_color

from recbole_fofa import processes
from recbole_fofa.compat import quiet_known_warnings, switch_off_anomaly_mode
from recbole_fofa.compat.logs import init_logger
from recbole_fofa.config.config import FofaConfig
from recbole_fofa.data.checks import inspect_files, report_lines
from recbole_fofa.device_profile import load_profile
from recbole_fofa.errors import CheckpointError, ConfigError
from recbole_fofa.evaluator.evaluate import evaluate_on_devices
from recbole_fofa.evaluator.prepare import Options, prepare
from recbole_fofa.evaluator.publish import publish
from recbole_fofa.evaluator.report import terminal
from recbole_fofa.evaluator.structures import summarize_structures
from recbole_fofa.loaders import explained, prepare_data
from recbole_fofa.registry import get_trainer
from recbole_fofa.serving.from_training import write_bundle
from recbole_fofa.serving.recbole_checkpoint import load_recbole_checkpoint
from recbole_fofa.trainer.checkpoint import best_checkpoint, check_items, load_checkpoint
from recbole_fofa.trainer.disk import claim_folder
from recbole_fofa.trainer.resume import find_checkpoint
from recbole_fofa.whole_file import write_whole


def run_recbole_fofa(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
    arguments: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Train and test a model: RecBole's ``run_recbole``.

    Args:
        model: Name or class; ``ForwardOFA`` if neither this nor a setting says.
        dataset: Name, folder or ``.inter`` file; ``ml-100k`` if neither this nor a setting says.
        config_file_list: YAML files.
        config_dict: Settings.
        saved: Whether checkpoints are written; without them the last epoch is tested.
        arguments: Words of a command line. ``sys.argv`` is never read.

    With ``nproc``, the processes are started here; those that torchrun has started each call this.

    Returns:
        ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result`` and ``test_result``.
        Empty where ``nproc`` starts a part of the processes without the first one.

    Raises:
        ConfigError, DataError: Before any long work, with everything that is wrong.
        TrainingDivergedError: If the loss is no longer finite.
        ProcessError: If one of several processes was killed.
    """
    config = checked_config(model, dataset, config_file_list, config_dict, arguments)
    if config.launch is not None:
        keywords = {
            "model": model,
            "dataset": dataset,
            "config_file_list": config_file_list,
            "config_dict": config_dict,
            "saved": saved,
            "arguments": arguments,
        }
        return processes.start(config.launch, run_recbole_fofa, keywords) or {}
    with processes.group(config["device"]):
        trainer, loaders, result = _train_and_test(config, saved)
        is_main = processes.is_main()
    if is_main:
        _report(config, trainer, loaders[2], result)
        if saved:
            _write_bundle(config, trainer, loaders[0], result)
        if config["device_eval"]:
            _report_on_devices(config, trainer, loaders[0], loaders[2])
    return result


def _train_and_test(config: FofaConfig, saved: bool) -> tuple[Any, tuple[Any, Any, Any], Any]:
    """The part of a run that several processes do together: trainer, loaders and result."""
    trainer, loaders = prepare_training(config)
    train_data, valid_data, test_data = loaders
    logger = getLogger()
    if config["device_eval"]:
        # Before training, what can be known to be wrong with the report at its end.
        prepare(trainer.model, train_data, test_data, _device_options(config))
    if processes.is_main():
        config.write_resolved(Path(trainer.saved_model_file).with_suffix(".config.yaml"))
    shown = _shows_progress(config)
    best_score, best_result = trainer.fit(train_data, valid_data, saved=saved, show_progress=shown)
    test_result = trainer.evaluate(test_data, load_best_model=saved, show_progress=shown)
    logger.info(set_color("best valid ", "yellow") + f": {best_result}")
    logger.info(set_color("test result", "yellow") + f": {test_result}", extra={"is_result": True})
    result = {
        "best_valid_score": float(best_score) if isfinite(best_score) else None,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": dict(best_result) if best_result is not None else None,
        "test_result": test_result,
    }
    return trainer, loaders, result


def _shows_progress(config: FofaConfig) -> bool:
    return bool(config["show_progress"] and not config["quiet"])


def prepare_training(config: FofaConfig) -> tuple[Any, tuple[Any, Any, Any]]:
    """All that comes before the first step: seeds, log, data, model.

    Returns:
        The trainer with a new model (or one that resumes), and the three loaders.

    Raises:
        ConfigError: If ``nproc`` asks for processes and nobody has started them.
    """
    if config.launch is not None:
        raise ConfigError("nproc and world_size: only a run starts processes; leave them out")
    if config["torch_threads"]:
        torch.set_num_threads(config["torch_threads"])
    init_seed(config["seed"], config["reproducibility"])
    _claim_folders(config)
    with explained(ConfigError, "output_dir: the log cannot be written"):
        init_logger(config)
    logger = getLogger()
    logger.info(config)
    config.log_changes()
    for line in config.data_lines:
        level = WARNING if line.startswith("warning: ") else INFO
        logger.log(level, line.removeprefix("warning: "))

    loaders = prepare_data(config)
    # The same in all processes, which therefore build the same model.
    init_seed(config["seed"], config["reproducibility"])
    network = build_model(config, loaders[0])
    logger.info(network)
    trainer = get_trainer(config)(config, network)
    logger.info(f"trainer: {type(trainer).__name__}, device: {config['device']}")
    if config["resume_from"]:
        trainer.resume_checkpoint(config["resume_from"])
    return trainer, loaders


def objective_function(
    config_dict: Mapping[str, Any] | None = None,
    config_file_list: Sequence[str] | None = None,
    saved: bool = True,
) -> dict[str, Any]:
    """RecBole's objective for tuning: the result of one run, and the model's name."""
    result = run_recbole_fofa(
        config_file_list=config_file_list, config_dict=config_dict, saved=saved
    )
    return {"model": (config_dict or {}).get("model", "ForwardOFA"), **result}


def load_data_and_model(
    model_file: str | Path,
    model: str | type | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    trust_pickle: bool = False,
) -> tuple[Any, ...]:
    """A saved model with its data, rebuilt from the settings in the checkpoint.

    Args:
        model_file: A ``.pth`` that this package has written, read without running anything in it;
            or the output folder of a run, whose newest best epoch is taken.
        model: The class, where the model was given as a class of your own.
        changes: Settings in the place of the checkpoint's, such as ``data_path``.
        trust_pickle: Whether a ``.pth`` that RecBole wrote is read too, which can run any code.

    Returns:
        config, model, dataset, train_data, valid_data, test_data. The config has no hooks, since
        those that a file names must not be run.

    Raises:
        CheckpointError: If the file is missing, damaged or not one of ours.
    """
    model_file = best_checkpoint(model_file)
    state = load_recbole_checkpoint(model_file) if trust_pickle else load_checkpoint(model_file)
    given = {**state["config"], "hooks": [], **(changes or {})}
    config = checked_config(model, config_dict=given)
    init_seed(config["seed"], config["reproducibility"])
    train_data, valid_data, test_data = prepare_data(config)
    check_items(state, train_data._dataset, model_file)
    network = build_model(config, train_data)
    try:
        network.load_state_dict(state["state_dict"])
    except RuntimeError as error:
        raise CheckpointError(f"{model_file} does not fit its own settings: {error}") from None
    network.load_other_parameter(state["other_parameter"])
    network.eval()
    return config, network, train_data._dataset, train_data, valid_data, test_data


def checked_config(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    arguments: Sequence[str] | None = None,
) -> FofaConfig:
    """Settings and data files, checked together, so that all faults are told at once."""
    quiet_known_warnings()
    config = FofaConfig(
        model, dataset, config_file_list, config_dict, arguments, raise_faults=False
    )
    faults = list(config.faults)
    config.data_lines = []
    if config.data_files is not None:
        data_faults, report = inspect_files(config.data_files, config.final_config_dict)
        faults += [fault for fault in data_faults if fault not in faults]
        config.data_lines = report_lines(report) if report is not None else []
    if faults:
        raise ConfigError(faults)
    return config


def _claim_folders(config: FofaConfig) -> None:
    """Where a run writes, tried before there is anything to lose."""
    claim_folder(Path(config["output_dir"] or "."), "output_dir")
    if config["resume_from"]:
        checkpoint = find_checkpoint(config["resume_from"], config["model"])
        claim_folder(checkpoint.parent, "resume_from")
    else:
        claim_folder(Path(config["checkpoint_dir"]), "checkpoint_dir")


def build_model(config: FofaConfig, train_data: Any) -> Any:
    """The config's model, new, on the config's device."""
    with explained(ConfigError, f"the settings do not fit {config['model']}"):
        network = config.model_class(config, train_data._dataset).to(config["device"])
    switch_off_anomaly_mode()
    return network


def _report(config: FofaConfig, trainer: Any, test_data: Any, result: dict[str, Any]) -> None:
    """Structures to the log; with ``output_dir``, everything to ``result.json`` too."""
    written: dict[str, Any] = dict(result)
    if hasattr(trainer.model, "structures"):
        summary = summarize_structures(trainer.model, test_data)
        written["structures"] = summary.plain()
        for line in summary.lines():
            getLogger().info(line)
    if config["output_dir"]:
        path = Path(config["output_dir"]) / "result.json"
        write_whole(path, (json.dumps(written, indent=2) + "\n").encode())


def _write_bundle(
    config: FofaConfig, trainer: Any, train_data: Any, result: dict[str, Any]
) -> None:
    """A folder beside the checkpoint that answers for any history, without the data set."""
    path = Path(trainer.saved_model_file)
    folder = path.with_name(f"{path.stem}-bundle")
    try:
        fingerprint = write_bundle(folder, trainer.model, config, train_data._dataset, result)
    except (ConfigError, OSError) as error:  # the run's own result must not be lost
        getLogger().info(f"no bundle: {error}")
    else:
        getLogger().info(f"bundle {fingerprint}: {folder}")


def _device_options(config: FofaConfig) -> Options:
    return Options(
        [load_profile(name) for name in config["device_profiles"]],
        candidates=config["device_candidates"],
        mask_history=config["mask_history"],
    )


def _report_on_devices(config: FofaConfig, trainer: Any, train_data: Any, test_data: Any) -> None:
    """The report on device classes, in a folder beside the checkpoint."""
    path = Path(trainer.saved_model_file)
    folder = path.with_name(f"{path.stem}-devices")
    options = _device_options(config)
    try:
        report = evaluate_on_devices(
            trainer.model,
            train_data,
            test_data,
            options,
            folder,
            show_progress=_shows_progress(config),
        )
        lines = [*terminal(report).splitlines(), *publish(report, folder)]
    except OSError as error:  # the run's own result must not be lost
        lines = [f"the device report could not be written to {folder}: {error}"]
    for line in lines:
        getLogger().info(line)
