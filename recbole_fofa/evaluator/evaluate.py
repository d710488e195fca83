"""One call from a trained model and its loaders to the folder of a report."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from recbole_fofa.cloud.assemble import fingerprint
from recbole_fofa.evaluator.candidates import Candidates, make_candidates
from recbole_fofa.evaluator.device_adaptation import DeviceAdaptationEvaluator
from recbole_fofa.evaluator.latency import percentiles, request_times
from recbole_fofa.evaluator.per_user import FILE, PerUserWriter, digest_of, per_user_writer
from recbole_fofa.evaluator.prepare import Options, Prepared, all_scores, prepare
from recbole_fofa.evaluator.quality import CaseMetrics
from recbole_fofa.evaluator.ranking import ScoreMatrix
from recbole_fofa.evaluator.result import REPORT, DeviceReport, Row
from recbole_fofa.evaluator.tally import GroupedMeans
from recbole_fofa.evaluator.task import Task
from recbole_fofa.recommender.forward_ofa import ForwardOFA

_TOLD = (
    "loss_type train_regime seed epochs learning_rate train_batch_size MAX_ITEM_LIST_LENGTH "
    "adapt_seq_length session_length n_layers hidden_size backbone valid_metric"
).split()
"""Settings that a reader of a result asks for first."""


def evaluate_on_devices(
    model: Any,
    train_data: Any,
    eval_data: Any,
    options: Options,
    folder: Path,
    *,
    show_progress: bool = False,
) -> DeviceReport:
    """Evaluate; write ``report.json``, ``per_user.csv.gz`` and files of candidates.

    A model without structures has one row, which is compared with others' rows.

    Args:
        model: The trained model.
        train_data: The loader that it was trained on.
        eval_data: The loader of the phase.
        options: How.
        folder: Where to; made if it is not there.
        show_progress: Whether a bar is shown.

    Raises:
        ConfigError, DataError: Before anything long.
        OSError: If the folder cannot be written.
    """
    ready = prepare(model, train_data, eval_data, options)
    folder.mkdir(parents=True, exist_ok=True)
    candidates = _candidates_of(ready, options, folder)
    task = Task(ready.cases, candidates, options.mask_history)
    staleness: list[Row] = []
    measured: dict[str, Any] = _versions()
    with per_user_writer(folder / FILE, ready.metrics.names) as on_cases:
        if ready.free is not None:
            parts = ready.classes, ready.free, ready.metrics
            evaluator = DeviceAdaptationEvaluator(
                model, *parts, ages=options.ages, seed=options.seed, yardsticks=options.yardsticks
            )
            with tqdm(total=evaluator.n_rows, unit="row", disable=not show_progress) as bar:
                rows = list(_counted(bar, evaluator.rows(task, on_cases)))
                staleness = list(_counted(bar, evaluator.staleness(task)))
            if options.times:
                measured |= _times(model, rows)
        else:
            rows = [_whole_model(model, eval_data, task, ready.metrics, on_cases)]
    report = DeviceReport(
        _protocol(eval_data._dataset.config, options, task, ready.metrics),
        _model(model, eval_data._dataset.config, options),
        rows,
        staleness,
        digest_of(folder / FILE),
        measured,
    )
    report.write(folder / REPORT)
    return report


def _counted(bar: Any, rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        bar.update()
        yield row


def _whole_model(
    model: Any, eval_data: Any, task: Task, metrics: CaseMetrics, on_cases: PerUserWriter
) -> Row:
    """A model that is the same for all users, by its own scores of all items."""
    name, means = type(model).__name__, GroupedMeans()
    for chosen in task.cases.chunks():
        scores = ScoreMatrix(all_scores(model, eval_data, chosen))
        ranks = task.ranks(scores, chosen, model.device)
        values = metrics.values(ranks)
        means.add(values, task.groups(chosen))
        on_cases(name, task.cases, chosen, np.zeros((len(ranks), 0), np.int64), ranks, values)
    return Row(way=name, profile=None, age=0, **means.parts())


def _candidates_of(ready: Prepared, options: Options, folder: Path) -> Candidates | None:
    if ready.stored is not None or ready.n_candidates is None:
        return ready.stored
    masked = options.mask_history
    return make_candidates(
        folder, ready.cases, options.candidates, seed=options.seed, without_history=masked
    )


def _protocol(config: Any, options: Options, task: Task, metrics: CaseMetrics) -> dict[str, Any]:
    cases, candidates = task.cases, task.candidates
    split = {key: config["eval_args"].get(key) for key in ("split", "order", "group_by")}
    return {
        "dataset": config["dataset"],
        "split": split,
        "phase": options.phase,
        "candidates": "full" if candidates is None else vars(candidates.info),
        "mask_history": task.mask_history,
        "cases": cases.digest,
        "n_cases": len(cases),
        "n_users": len(np.unique(cases.users)),
        "n_items": cases.n_items,
        "metrics": metrics.names,
    }


def _model(model: Any, config: Any, options: Options) -> dict[str, Any]:
    told = {key: config[key] for key in _TOLD if key in config and config[key] is not None}
    own: dict[str, Any] = {}
    if isinstance(model, ForwardOFA):
        own = {
            "fingerprint": fingerprint(model),
            "shuffle_seed": options.seed,
            "chooses": model.network.controller is not None and not model.keep_all,
            "generates": model.network.mapper is not None and not model.share_base,
        }
    return {"name": type(model).__name__, **own, "settings": told}


def _times(model: ForwardOFA, rows: Sequence[Row]) -> dict[str, Any]:
    times = request_times(model)
    return {
        "request_ms": {row.label: percentiles(times, row) for row in rows},
        "request_ms_by_kept_blocks": {
            str(k): {f"p{share}": float(np.percentile(own, share)) for share in (50, 95)}
            for k, own in times.items()
        },
    }


def _versions() -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "torch_threads": torch.get_num_threads(),
    }
