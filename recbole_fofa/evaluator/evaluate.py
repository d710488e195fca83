"""One call from a trained model and its loaders to the folder of a report."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from recbole_fofa.cloud.assemble import fingerprint
from recbole_fofa.device_profile import DeviceProfile
from recbole_fofa.errors import ConfigError
from recbole_fofa.evaluator.candidates import (
    Candidates,
    load_candidates,
    make_candidates,
    width_of,
)
from recbole_fofa.evaluator.cases import Cases, cases_of
from recbole_fofa.evaluator.device_adaptation import DeviceAdaptationEvaluator
from recbole_fofa.evaluator.device_class import device_classes
from recbole_fofa.evaluator.latency import percentiles, request_times
from recbole_fofa.evaluator.per_user import FILE, PerUserWriter, per_user_writer
from recbole_fofa.evaluator.quality import CaseMetrics, Means
from recbole_fofa.evaluator.ranking import ScoreMatrix
from recbole_fofa.evaluator.result import DeviceReport, Row, SliceResult
from recbole_fofa.evaluator.tally import standard_errors
from recbole_fofa.evaluator.task import Task
from recbole_fofa.recommender.forward_ofa import ForwardOFA

REPORT = "report.json"
_TOLD = (
    "loss_type train_regime seed epochs learning_rate train_batch_size MAX_ITEM_LIST_LENGTH "
    "adapt_seq_length session_length n_layers hidden_size backbone valid_metric"
).split()
"""Settings that a reader of a result asks for first."""


@dataclass(frozen=True)
class Options:
    """How to evaluate.

    Attributes:
        profiles: Device classes.
        candidates: ``full`` for all items, a kind such as ``uni99``, ``pop99``, ``retrieval100``,
            or a ``.npy`` file of candidates.
        mask_history: Whether no item before the target is ranked.
        ages: See :class:`DeviceAdaptationEvaluator`.
        seed: Of candidates and of the shuffling.
        phase: ``test`` or ``valid``.
        times: Whether to measure milliseconds of requests.
    """

    profiles: Sequence[DeviceProfile]
    candidates: str = "full"
    mask_history: bool = False
    ages: Sequence[int] = (1, 5, 10, 20, 50)
    seed: int = 0
    phase: str = "test"
    times: bool = True

    @property
    def is_file(self) -> bool:
        """Whether candidates come from a file."""
        return self.candidates.endswith(".npy")

    def faults(self) -> list[str]:
        """Contradictions, found before anything long."""
        faults = []
        names = [profile.name for profile in self.profiles]
        if not names:
            faults.append("no device profile is given: name one, such as low")
        if self.seed < 0:
            faults.append(f"seed must be a whole number of at least 0; got {self.seed}")
        if len(set(names)) < len(names):
            faults.append(f"two device profiles have one name ({', '.join(names)}): rename one")
        if any(age < 1 for age in self.ages):
            faults.append(f"ages must be whole numbers of at least 1; got {list(self.ages)}")
        if not (self.candidates == "full" or width_of(self.candidates) or self.is_file):
            faults.append(
                f"candidates must be full, uni99, pop99, retrieval100 (any number) or a .npy file; "
                f"got {self.candidates!r}"
            )
        if self.is_file and not Path(self.candidates).is_file():
            faults.append(f"no file of candidates {self.candidates}")
        return faults


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
    """
    if faults := options.faults():
        raise ConfigError(faults)
    cases = cases_of(eval_data, train_data)
    config = eval_data._dataset.config
    metrics = CaseMetrics(config["metrics"], config["topk"])
    stored = load_candidates(Path(options.candidates), cases) if options.is_file else None
    if isinstance(model, ForwardOFA):  # before candidates are drawn
        width = width_of(options.candidates) if stored is None else stored.width
        device_classes(model, options.profiles, cases.item_tokens, width)
    _make(folder)
    candidates = stored or _candidates(options, cases, folder)
    task = Task(cases, candidates, options.mask_history)
    staleness: list[Row] = []
    measured: dict[str, Any] = _versions()
    with per_user_writer(folder / FILE, metrics.names) as on_cases:
        if isinstance(model, ForwardOFA):
            evaluator = DeviceAdaptationEvaluator(
                model,
                options.profiles,
                metrics,
                cases.item_tokens,
                n_candidates=candidates.width if candidates is not None else None,
                ages=options.ages,
                seed=options.seed,
            )
            with tqdm(total=evaluator.n_rows, unit="row", disable=not show_progress) as bar:
                rows = list(_counted(bar, evaluator.rows(task, on_cases)))
                staleness = list(_counted(bar, evaluator.staleness(task)))
            if options.times:
                measured |= _times(model, rows)
        else:
            rows = [_whole_model(model, eval_data, task, metrics, on_cases)]
    report = DeviceReport(
        _protocol(config, options, cases, candidates, metrics),
        _model(model, config, options),
        rows,
        staleness,
        measured,
    )
    report.write(folder / REPORT)
    return report


def _counted(bar: Any, rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        bar.update()
        yield row


@torch.no_grad()
def _whole_model(
    model: Any, eval_data: Any, task: Task, metrics: CaseMetrics, on_cases: PerUserWriter
) -> Row:
    """A model that is the same for all users, by its own scores of all items."""
    model.eval()
    name, means, slices = type(model).__name__, Means(), dict[str, Means]()
    for chosen in task.cases.chunks():
        interaction = eval_data._dataset[np.arange(chosen.start, chosen.stop)]
        try:
            scores = model.full_sort_predict(interaction.to(model.device))
        except NotImplementedError:
            raise ConfigError(
                f"{name} gives no scores of all items (full_sort_predict), which are what is ranked"
            ) from None
        matrix = ScoreMatrix(scores.view(chosen.stop - chosen.start, -1))
        ranks = task.ranks(matrix, chosen, model.device)
        values = metrics.values(ranks)
        means.add(values)
        for group, mask in task.groups(chosen).items():
            slices.setdefault(group, Means()).add(values, mask)
        on_cases(name, task.cases, chosen, np.zeros((len(ranks), 0), np.int64), ranks, values)
    groups = {group: SliceResult(found.n, found.plain()) for group, found in slices.items()}
    metrics = means.plain()
    errors = standard_errors(means, metrics)
    return Row(name, None, 0, means.n, metrics, errors, slices=groups)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder} (--output_dir): {error}") from None


def _candidates(options: Options, cases: Cases, folder: Path) -> Candidates | None:
    if options.candidates == "full":
        return None
    return make_candidates(
        folder / f"{options.candidates}.npy",
        cases,
        options.candidates,
        seed=options.seed,
        without_history=options.mask_history,
    )


def _protocol(
    config: Any,
    options: Options,
    cases: Cases,
    candidates: Candidates | None,
    metrics: CaseMetrics,
) -> dict[str, Any]:
    split = {key: config["eval_args"].get(key) for key in ("split", "order", "group_by")}
    return {
        "dataset": config["dataset"],
        "split": split,
        "phase": options.phase,
        "candidates": "full" if candidates is None else vars(candidates.info),
        "mask_history": options.mask_history,
        "cases": cases.digest(),
        "n_cases": len(cases),
        "n_users": len(np.unique(cases.users)),
        "n_items": cases.n_items,
        "metrics": metrics.names,
    }


def _model(model: Any, config: Any, options: Options) -> dict[str, Any]:
    told = {key: config[key] for key in _TOLD if key in config and config[key] is not None}
    own: dict[str, Any] = {}
    if isinstance(model, ForwardOFA):
        own = {"fingerprint": fingerprint(model), "shuffle_seed": options.seed}
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
