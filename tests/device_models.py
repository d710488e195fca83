"""Models, profiles and tokens that the tests of cloud and device share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from small import cycle_settings

from recbole_fofa.cloud.population import item_tokens
from recbole_fofa.device_profile import DeviceProfile
from recbole_fofa.quick_start import build_model, checked_config, prepare_data

FREE = DeviceProfile(name="free")


def model_and_tokens(tmp_path: Path, **changes: Any) -> tuple[Any, list[str]]:
    """A new ForwardOFA of three blocks whose users differ visibly, and its item tokens."""
    settings = cycle_settings(tmp_path, n_layers=3, mapper_scale=1.0, keep_bias=0.0, **changes)
    config = checked_config(config_dict=settings)
    loaders = prepare_data(config)
    torch.manual_seed(5)
    model = build_model(config, loaders[0]).eval()
    with torch.no_grad():
        # As if trained: embeddings of an ordinary size, gates that differ between users.
        model.item_embedding.weight.mul_(20)
        for base in model.network.base:
            for value in base.parameters():
                value.add_(torch.randn_like(value) * 0.1)
        if model.network.controller is not None:
            model.network.controller.head.weight.normal_(std=2.0)
        if model.network.mapper is not None and model.network.mapper.to_repeat_bias is not None:
            model.network.mapper.to_repeat_bias.bias.fill_(-3.0)
    return model, item_tokens(loaders[0]._dataset)


def histories(tokens: list[str], n_users: int = 5, seed: int = 0) -> list[list[str]]:
    """Item tokens of users with 1, 2, 3, ... items, some longer than any input."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [
            tokens[int(row)]
            for row in torch.randint(1, len(tokens), (3 * user + 1,), generator=generator)
        ]
        for user in range(n_users)
    ]


def padded(model: Any, tokens: list[str], rows: list[list[str]], newest: int) -> tuple[Any, Any]:
    """Ids ``[B, newest]`` padded on the right, and lengths ``[B]``."""
    ids = [[tokens.index(token) for token in row[-newest:]] for row in rows]
    lengths = torch.tensor([len(row) for row in ids])
    return torch.tensor([row + [0] * (newest - len(row)) for row in ids]), lengths


def cloud_scores(model: Any, tokens: list[str], rows: list[list[str]], allowed: Any = None) -> Any:
    """Structures and scores of all items, ``[B, N - 1]``, by the model itself."""
    with torch.no_grad():
        behaviour = padded(model, tokens, rows, model.settings.adapt_seq_length)
        decision = model.decide(*behaviour, allowed=allowed)
        item_seq, lengths = padded(model, tokens, rows, model.max_seq_length)
        adaptation = model.network.generate(decision)
        hidden = model.encode(item_seq, adaptation)
        last = hidden[torch.arange(len(rows)), lengths - 1]
        scores = last @ model.item_embedding.weight[1:].T
        ids = [[tokens.index(token) for token in row] for row in rows]
        return decision.structure, with_repeats(scores, adaptation, ids)


def with_repeats(scores: torch.Tensor, adaptation: Any, ids: list[list[int]]) -> torch.Tensor:
    """Scores of all items but padding, ``[B, N - 1]``, with each user's repeat bias."""
    if adaptation.repeat_bias is None:
        return scores
    scores = scores.clone()
    for row, bias, own in zip(scores, adaptation.repeat_bias, ids, strict=True):
        for item in set(own):
            row[item - 1] += bias
    return scores
