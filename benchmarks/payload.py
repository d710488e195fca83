"""What crosses the network, and what its precision costs: every user's test item on the device.

For each rank a default model is trained once. Then each test user's device computes its uplink in
numpy, receives its payload as a file, and ranks all items in numpy. Beside it stands DUET's head.
Full ranking, leave-one-out; ranks count every item with a higher score.

    python benchmarks/payload.py --seeds 1 2 3 --ranks 4 16 64
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from record import PROTOCOL, append_line, digest, provenance
from training import trained

from recbole_fofa.cloud.population import item_tokens
from recbole_fofa.cloud.service import CloudService
from recbole_fofa.data.dataset import POSITION
from recbole_fofa.device.payload import structure_text
from recbole_fofa.device.runtime import DeviceRuntime
from recbole_fofa.device_profile import DeviceProfile

BYTES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="ml-100k", help="name, folder or file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--ranks", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--train_batch_size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for seed in arguments.seeds:
        for line in lines_of(seed, arguments):
            append_line("payload", line)
            print(line["way"], line["seed"], line["payload_bytes"], f"{line['ndcg@10']:.6f}")


def lines_of(seed: int, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    common = {
        "dataset": arguments.dataset,
        "epochs": arguments.epochs,
        "train_batch_size": arguments.train_batch_size,
    }
    origin = {"protocol": PROTOCOL, "seed": seed, **common, **provenance(arguments.threads)}
    origin["dataset"] = arguments.dataset.rstrip("/").split("/")[-1]
    for rank in arguments.ranks:
        trainer, *_, test = trained(seed, **common, mapper_rank=rank)
        reference = trainer.evaluate(test, load_best_model=False)["ndcg@10"]
        # Whole tensors have the same size for every rank: shown once, for the default one.
        forms = ("dense", "delta") if rank == 16 else ("delta",)
        for form in forms:
            for precision in ("fp32", "fp16", "int8"):
                profile = DeviceProfile(name="all", payload=form, precision=precision)
                way = f"low rank {rank}" if form == "delta" else "whole blocks"
                found = on_devices(trainer.model, test, profile)
                yield {
                    "way": f"{way}, {precision}",
                    **found,
                    "cloud_ndcg@10": reference,
                    "settings_hash": digest(trainer.model.settings.model_dump()),
                    **origin,
                }
    trainer, *_, test = trained(seed, "DUET", **common)
    width = trainer.model.settings.hidden_size
    yield {
        "way": "DUET's head, fp32",
        "payload_bytes": 2 * (width * width + width) * BYTES,
        "uplink_bytes": None,
        "ndcg@10": trainer.evaluate(test, load_best_model=False)["ndcg@10"],
        "settings_hash": digest(trainer.model.settings.model_dump()),
        **origin,
    }


def on_devices(model: Any, test: Any, profile: DeviceProfile) -> dict[str, Any]:
    """Mean bytes of a session and NDCG@10 over the test users, by way of their devices."""
    tokens = item_tokens(test._dataset)
    cloud = CloudService(model, tokens)
    device = DeviceRuntime(cloud.enroll(profile))
    histories = test._dataset.histories
    ups, downs, gains, structures = [], [], [], Counter()
    for position in test._dataset.inter_feat[POSITION].tolist():
        ids = histories.items[histories.starts[position] : position]
        history = [tokens[item] for item in ids]
        message = device.uplink(history).to_bytes()
        answer = cloud.handle(message)
        device.apply(answer)
        structures[structure_text(device.payload.structure)] += 1
        scores = device.score(history, tokens[1:])
        rank = 1 + int((scores > scores[histories.items[position] - 1]).sum())
        gains.append(1 / np.log2(rank + 1) if rank <= 10 else 0.0)
        ups.append(len(message))
        downs.append(len(answer))
    return {
        "payload_bytes": round(float(np.mean(downs)), 1),
        "payload_bytes_p95": float(np.percentile(downs, 95)),
        "uplink_bytes": round(float(np.mean(ups)), 1),
        "ndcg@10": float(np.mean(gains)),
        "users": len(gains),
        "structures": dict(structures.most_common()),
    }


if __name__ == "__main__":
    main()
