"""Bulk adaptation in the cloud: users a second on one core, and how it grows with the sizes.

Extractors and structures in batches of 256, then the bytes of each user's payload, which are not
written; beside it the batched part alone.

    python benchmarks/throughput.py
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from record import append_line, provenance

from recbole_fofa.cloud.assemble import assemble, make_bundle
from recbole_fofa.cloud.population import item_tokens
from recbole_fofa.device_profile import DeviceProfile
from recbole_fofa.quick_start import build_model, checked_config, prepare_data

BATCH = 256
SIZES: list[dict[str, Any]] = [
    {},
    *({"n_layers": n_layers} for n_layers in (4, 8)),
    *({"adapt_seq_length": length} for length in (100, 200, 400)),
    *({"hidden_size": width, "inner_size": 4 * width} for width in (32, 128)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    origin = provenance(1)
    models = [prepared(changes) for changes in SIZES]
    times: list[list[tuple[float, float]]] = [[] for _ in SIZES]
    for number in range(arguments.rounds + 1):
        for row, parts in zip(times, models, strict=True):
            measured = once(*parts)
            if number:  # the first round warms up
                row.append(measured)
    slowest = None
    for changes, row in zip(SIZES, times, strict=True):
        batched, whole = (float(np.median([pair[part] for pair in row])) for part in (0, 1))
        slowest = slowest or whole
        line = {
            "dataset": "ml-100k",
            "n_layers": 2,
            "adapt_seq_length": 50,
            "hidden_size": 64,
            **changes,
            "users_per_second": round(BATCH / whole, 1),
            "users_per_second_batched_part": round(BATCH / batched, 1),
            "seconds_relative_to_default": round(whole / slowest, 2),
        }
        append_line("throughput", line | origin)
        print(changes, line["users_per_second"], line["seconds_relative_to_default"])


def prepared(changes: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    """Model, bundle and a batch of full behaviours."""
    config = checked_config(config_dict={"quiet": True, **changes})
    train, *_ = prepare_data(config)
    model = build_model(config, train).eval()
    bundle = make_bundle(model, DeviceProfile(name="all"), item_tokens(train._dataset))
    length = model.settings.adapt_seq_length
    behaviour = torch.randint(1, model.n_items, (BATCH, length))
    return model, bundle, behaviour, torch.full((BATCH,), length)


@torch.no_grad()
def once(model: Any, bundle: Any, behaviour: Any, lengths: Any) -> tuple[float, float]:
    """Seconds of the batched part, and of all."""
    started = time.perf_counter()
    decision = model.decide(behaviour, lengths)
    batched = time.perf_counter() - started
    for row, structure in enumerate(decision.structure.int().tolist()):
        payload = assemble(model, bundle.info, tuple(structure), decision.interest[row])
        payload.to_bytes(bundle.info)
    return batched, time.perf_counter() - started


if __name__ == "__main__":
    main()
