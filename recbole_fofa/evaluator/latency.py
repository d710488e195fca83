"""Milliseconds of a request on this machine, for networks of each number of kept blocks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from recbole_fofa.evaluator.result import Row
from recbole_fofa.model.assembled import AssembledNetwork
from recbole_fofa.model.network import Decision
from recbole_fofa.model.weights import dense_parameters
from recbole_fofa.recommender.forward_ofa import ForwardOFA

N_CANDIDATES = 100
_ROUNDS, _WARM_UP = 60, 10


@torch.no_grad()
def request_times(model: ForwardOFA) -> dict[int, list[float]]:
    """Milliseconds of some requests by number of kept blocks: batch 1, full input length.

    Interleaved, so that a busy machine slows all of them alike. Times do not depend on which
    user the parameters are of.
    """
    device, width = model.device, model.settings.hidden_size
    random = torch.Generator().manual_seed(0)  # the user's own generator is left alone
    item_emb = torch.randn(1, model.max_seq_length, width, generator=random).to(device)
    candidates = torch.randn(1, N_CANDIDATES, width, generator=random).to(device)
    lengths = torch.tensor([model.max_seq_length], device=device)
    n_blocks = len(model.network.backbone.blocks)
    networks = {k: _assembled(model, k) for k in range(n_blocks + 1)}
    times: dict[int, list[float]] = {k: [] for k in networks}
    for number in range(_WARM_UP + _ROUNDS):
        for k, network in networks.items():
            started = time.perf_counter()
            network(item_emb, lengths, candidates).cpu()
            if number >= _WARM_UP:
                times[k].append(1000 * (time.perf_counter() - started))
    return times


def _assembled(model: ForwardOFA, k: int) -> AssembledNetwork:
    """A network of the first ``k`` blocks with the parameters of some user."""
    network, width = model.network, model.settings.hidden_size
    structure = torch.tensor([[float(i < k) for i in range(len(network.backbone.blocks))]])
    has_interest = network.mapper is not None and not model.share_base
    interest = torch.ones(1, width, device=model.device) if has_interest else None
    adaptation = network.generate(Decision(structure.to(model.device), interest, None))
    own = []
    for block, tensors in zip(network.backbone.blocks[:k], adaptation.parameters, strict=False):
        dense = dense_parameters(tensors or {})
        own.append({n: v.reshape(block.parameters[n].shape) for n, v in dense.items()})
    bias = None if adaptation.output_bias is None else adaptation.output_bias[0]
    return AssembledNetwork(network.backbone, range(k), own, bias)


def percentiles(times: Mapping[int, Sequence[float]], row: Row) -> dict[str, float]:
    """Milliseconds p50 and p95 over the requests of a row's cases."""
    samples, weights = [], []
    for code, n in row.counts.items():
        own = times[code.count("1")]
        samples += own
        weights += [n / len(own)] * len(own)
    order = np.argsort(samples)
    shares = np.cumsum(np.array(weights)[order]) / sum(weights)
    return {
        name: float(np.array(samples)[order][np.searchsorted(shares, share)])
        for name, share in (("p50", 0.5), ("p95", 0.95))
    }
