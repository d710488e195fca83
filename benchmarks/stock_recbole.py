"""RecBole 1.2.1 alone (its config, data, augmentation, model and trainer) on ml-100k.

The reference that our own runs are measured against. Nothing of ``recbole_fofa`` is imported.
Only what keeps RecBole from starting on today's numpy and torch is shimmed (three numpy names, a
checkpoint that torch can load again). The interactions are handed over in the order that
``recbole_fofa`` also uses: per user, stably by the float64 timestamp. RecBole would cast the
timestamps to float32 first, which gives some users another test item.

    python benchmarks/stock_recbole.py --seed 1 --train_batch_size 256 --stopping_step 5
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from record import PROTOCOL, append_line, provenance


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="SASRec")
    parser.add_argument("--seed", type=int, default=2020)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--train_batch_size", type=int, default=2048)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--stopping_step", type=int, default=10)
    parser.add_argument(
        "--anomaly_mode",
        action="store_true",
        help="leave autograd's anomaly mode on, as RecBole does by accident",
    )
    return parser.parse_args()


def ml100k() -> Path:
    """The interactions that RecBole's wheel ships."""
    import recbole

    return Path(recbole.__file__).parent / "dataset_example/ml-100k/ml-100k.inter"


def write_ordered(source: Path, folder: Path) -> None:
    """Copy interactions with the position in the user's history as their timestamp."""
    rows = pd.read_csv(source, sep="\t", dtype={"user_id:token": str, "item_id:token": str})
    rows = rows.sort_values(["user_id:token", "timestamp:float"], kind="stable")
    rows["timestamp:float"] = rows.groupby("user_id:token").cumcount()
    target = folder / "ordered"
    target.mkdir()
    columns = ["user_id:token", "item_id:token", "timestamp:float"]
    rows[columns].to_csv(target / "ordered.inter", sep="\t", index=False)


def shim_numpy() -> None:
    """Give numpy 2 the three names that RecBole's ``Config`` reads; overwrite nothing."""
    for name, value in {
        "float_": np.float64,
        "complex_": np.complex128,
        "unicode_": np.str_,
    }.items():
        if not hasattr(np, name):
            setattr(np, name, value)


@contextmanager
def stock_setting(threads: int, source: Path | None = None) -> Iterator[Path]:
    """What RecBole needs to run alone; yields a temporary folder with the ordered interactions.

    Args:
        threads: Of torch.
        source: An ``.inter`` file, also gzipped; ml-100k if not given.
    """
    sys.argv = sys.argv[:1]  # RecBole's Config reads it
    torch.set_num_threads(threads)
    shim_numpy()
    with tempfile.TemporaryDirectory() as folder:
        write_ordered(source or ml100k(), Path(folder))
        yield Path(folder)


def main() -> None:
    arguments = parse_arguments()
    origin = provenance(arguments.threads)
    with stock_setting(arguments.threads) as folder:
        line = train_and_test(arguments, folder)
    append_line("stock_recbole", line | origin)


def stock_trainer(
    folder: Path, model_name: str = "SASRec", anomaly_mode: bool = False, **changes: Any
) -> tuple[Any, Any, Any, Any]:
    """RecBole's trainer, ready to fit, and its three loaders.

    Args:
        folder: Where :func:`write_ordered` has written.
        model_name: One of RecBole's sequential models that are trained with CE.
        anomaly_mode: Whether autograd's anomaly mode stays on, as RecBole leaves it.
        changes: Settings of RecBole.
    """
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_logger, init_seed

    settings = {
        "data_path": str(folder),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "train_neg_sample_args": None,
        "metrics": ["NDCG", "Hit", "MRR", "Recall"],
        "valid_metric": "NDCG@10",
        "metric_decimal_place": 8,
        "show_progress": False,
        "checkpoint_dir": str(folder / "saved"),
        **changes,
    }
    config = Config(model=model_name, dataset="ordered", config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)
    loaders = data_preparation(config, create_dataset(config))
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(model_name)(config, loaders[0]._dataset)
    # Importing RecBole's sequential models switches anomaly mode on (sine.py).
    torch.autograd.set_detect_anomaly(anomaly_mode)
    return get_trainer(config["MODEL_TYPE"], model_name)(config, model), *loaders


def train_and_test(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One whole run; the best epoch by validation NDCG@10 is the one tested."""
    trainer, train_data, valid_data, test_data = stock_trainer(
        folder,
        arguments.model,
        arguments.anomaly_mode,
        seed=arguments.seed,
        train_batch_size=arguments.train_batch_size,
        epochs=arguments.epochs,
        stopping_step=arguments.stopping_step,
    )
    model = trainer.model
    best: dict[str, torch.Tensor] = {}
    best_epoch = -1

    def keep_best(epoch: int, **_: Any) -> None:
        nonlocal best_epoch
        best_epoch = epoch
        best.update({name: value.clone() for name, value in model.state_dict().items()})

    trainer._save_checkpoint = keep_best
    started = time.perf_counter()
    valid_score, _ = trainer.fit(train_data, valid_data, show_progress=False)
    seconds = time.perf_counter() - started
    model.load_state_dict(best)
    test = trainer.evaluate(test_data, load_best_model=False)
    epochs_run = len(trainer.train_loss_dict)
    return {
        "dataset": "ml-100k",
        "model": f"RecBole {arguments.model}",
        "protocol": PROTOCOL,
        "seed": arguments.seed,
        "anomaly_mode": arguments.anomaly_mode,
        "valid_ndcg@10": float(valid_score),
        **{f"test_{name}": float(value) for name, value in test.items()},
        "best_epoch": best_epoch,
        "epochs": epochs_run,
        "seconds": seconds,
        "seconds_per_epoch": seconds / epochs_run,
    }


if __name__ == "__main__":
    main()
