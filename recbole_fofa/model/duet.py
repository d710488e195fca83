"""DUET's part beside the backbone (Lv et al., WWW 2023): two dense layers generated per user."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from recbole_fofa.model.backbone.base import linear


class GeneratedHead(nn.Module):
    """Behaviour to the weights of two dense layers, ``D`` to ``D`` to ``D``, tanh between.

    A GRU over the behaviour and an MLP give the condition ``z [B, D]``; each layer's weight and
    bias are linear in it. The public code keeps these last maps in plain lists, so that its
    optimizer never sees them and they stay as they were drawn; here they are trained, unless
    ``frozen`` asks for what the public code does. Their scale is ours: a layer starts with the
    statistics of an ordinary one (the public code draws from a normal of deviation 1).

    Args:
        hidden_size: ``D``.
        frozen: Whether the generator stays as it was drawn; GRU and MLP are trained all the same.
    """

    def __init__(self, hidden_size: int, *, frozen: bool = False) -> None:
        super().__init__()
        self.gru = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.condition = nn.Sequential(
            nn.Linear(hidden_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, hidden_size)
        )
        self.generators = nn.ModuleList(_generator(hidden_size, frozen) for _ in range(2))

    def generate(self, behaviour: Tensor, lengths: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Weight ``[B, D, D]`` and bias ``[B, D]`` of both layers.

        Args:
            behaviour: Item embeddings, padded on the right, ``[B, H, D]``.
            lengths: ``[B]``; a behaviour of length 0 counts as a state of zeros.
        """
        width = behaviour.shape[2]
        states, _ = self.gru(behaviour)
        last = (lengths - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, width)
        state = states.gather(1, last).squeeze(1) * (lengths > 0).unsqueeze(1)
        z = self.condition(state)
        flat = [generator(z) for generator in self.generators]
        return [(both[:, :-width].view(-1, width, width), both[:, -width:]) for both in flat]

    def forward(self, hidden: Tensor, behaviour: Tensor, lengths: Tensor) -> Tensor:
        """The backbone's states ``[B, T, D]`` through each user's own layers, ``[B, T, D]``."""
        (weight_1, bias_1), (weight_2, bias_2) = self.generate(behaviour, lengths)
        return linear(torch.tanh(linear(hidden, weight_1, bias_1)), weight_2, bias_2)


def _generator(hidden_size: int, frozen: bool) -> nn.Linear:
    """From ``D`` to a layer's ``D x D`` weights, then its ``D`` biases, which start at zero."""
    generator = nn.Linear(hidden_size, hidden_size * hidden_size + hidden_size)
    nn.init.normal_(generator.weight, std=1 / hidden_size)
    nn.init.normal_(generator.bias, std=1 / math.sqrt(hidden_size))
    with torch.no_grad():
        generator.bias[-hidden_size:] = 0.0
    return generator.requires_grad_(not frozen)
