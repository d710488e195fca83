"""Structures of others: the same cost, and nothing is left behind."""

from __future__ import annotations

import torch
from small import batch, small_network

from recbole_fofa.evaluator.structures import shuffled_structures


class Model:
    def __init__(self) -> None:
        self.network = small_network()


def test_users_get_one_anothers_structures() -> None:
    model = Model()
    x, behaviour, lengths = batch(9)
    adaptation = model.network.adapt(behaviour, lengths)
    assert len(adaptation.structure.unique(dim=0)) > 1
    seen = []

    def look(_network: object, inputs: tuple[object, ...]) -> None:
        seen.append(inputs[1].structure)

    own = model.network(x, adaptation)
    with shuffled_structures(model, seed=1):
        handle = model.network.register_forward_pre_hook(look)
        others = model.network(x, adaptation)
        again = model.network(x, adaptation)
        handle.remove()
    assert not torch.equal(seen[0], adaptation.structure)
    assert sorted(seen[0].tolist()) == sorted(adaptation.structure.tolist())
    assert not torch.allclose(others, own)
    assert others.isfinite().all() and again.isfinite().all()
    assert torch.equal(model.network(x, adaptation), own)
    with shuffled_structures(model, seed=1):
        assert torch.equal(model.network(x, adaptation), others)
