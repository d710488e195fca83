"""Structure-guided mapper: what are this user's block parameters? (Figure 3c)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from recbole_fofa.model.backbone.base import BlockSpec, ParameterSpec
from recbole_fofa.model.extractor import SequenceExtractor
from recbole_fofa.model.weights import BlockParameters, LowRankWeight

MapperForm = Literal["full", "residual", "low_rank"]


class Hypernetwork(nn.Module):
    """One block's hypernetwork: a condition vector to a change of each of the block's tensors.

    ``residual``: a code of ``rank`` numbers in (-1, 1), times a learned basis. ``low_rank``: each
    matrix changes by ``U C(u) V`` with shared ``U [rows, R]``, ``V [R, columns]`` and a generated
    core ``C(u) [R, R]``; vectors as in ``residual``. ``full``: matrices are generated whole, by a
    linear map of the condition (there is no shared base for them); vectors as in ``residual``.

    Initial scales are set so that a generated matrix starts with the statistics of the
    backbone's own initialisation, and no factor is zero, so that the gradient reaches all of
    them at the first step (both ours).

    Args:
        parameters: The block's tensors.
        condition_size: ``D``.
        form: See above.
        rank: ``R``.
        scale: Initial size of the change relative to ``initializer_range``.
        initializer_range: Standard deviation of the backbone's initial matrices.
    """

    def __init__(
        self,
        parameters: Mapping[str, ParameterSpec],
        *,
        condition_size: int,
        form: MapperForm,
        rank: int,
        scale: float,
        initializer_range: float,
    ) -> None:
        super().__init__()
        self.specs = dict(parameters)
        self.form = form
        self.rank = rank
        matrices = [name for name, spec in self.specs.items() if spec.is_matrix]
        self.special = matrices if form != "residual" else []
        self.coded = [name for name in self.specs if name not in self.special]

        self.to_code = nn.Linear(condition_size, rank)
        change = scale * initializer_range
        # E[tanh(z)^2] is about 0.4 for a standard normal z.
        coded_size = sum(self.specs[name].size for name in self.coded)
        self.basis = nn.Parameter(torch.randn(rank, coded_size) * change / math.sqrt(0.4 * rank))
        nn.init.normal_(self.to_code.weight, std=1 / math.sqrt(condition_size))
        nn.init.zeros_(self.to_code.bias)
        if form == "full":
            size = sum(self.specs[name].size for name in matrices)
            std = initializer_range / math.sqrt(condition_size)
            self.generator = nn.Parameter(torch.randn(condition_size, size) * std)
        if form == "low_rank":
            self.to_cores = nn.Linear(condition_size, len(matrices) * rank * rank)
            nn.init.normal_(self.to_cores.weight, std=1 / math.sqrt(condition_size))
            nn.init.zeros_(self.to_cores.bias)
            # A sum over R^2 products of three factors; the core's entries are in (-1, 1).
            factor = math.sqrt(change / (math.sqrt(0.4) * rank))
            self.left = nn.ParameterDict(
                {name: torch.randn(self.specs[name].shape[0], rank) * factor for name in matrices}
            )
            self.right = nn.ParameterDict(
                {name: torch.randn(rank, self.specs[name].shape[1]) * factor for name in matrices}
            )

    def forward(
        self,
        condition: Tensor,
        base: Mapping[str, Tensor],
        changed: Tensor | None = None,
    ) -> dict[str, Tensor | LowRankWeight]:
        """The block's tensors for each user.

        Args:
            condition: ``[B, D]``.
            base: The block's shared tensors; without those that are generated whole.
            changed: 1 for users with a change of their own, and 0 for those who get the base,
                ``[B]``; if not given, all have one. Not with ``full``.

        Returns:
            ``[B, *shape]`` by name; with ``low_rank`` the matrices as their factors.
        """
        code = self.code(condition)
        code = code if changed is None else code * changed.unsqueeze(1)
        changes = self._split(code @ self.basis, self.coded)
        generated: dict[str, Tensor | LowRankWeight] = {
            name: base[name] + change for name, change in changes.items()
        }
        if self.form == "full":
            generated |= self._split(condition @ self.generator, self.special)
        elif self.form == "low_rank":
            cores = self.cores(condition)
            cores = cores if changed is None else cores * changed.view(-1, 1, 1, 1)
            generated |= self._low_rank_weights(cores, base)
        return generated

    def code(self, condition: Tensor) -> Tensor:
        """What belongs to each user of the tensors that change by a basis, ``[B, R]``."""
        return torch.tanh(self.to_code(condition))

    def cores(self, condition: Tensor) -> Tensor:
        """With ``low_rank``, what belongs to each user of each matrix, ``[B, matrices, R, R]``."""
        flat = torch.tanh(self.to_cores(condition))
        return flat.view(-1, len(self.special), self.rank, self.rank)

    def _low_rank_weights(
        self, cores: Tensor, base: Mapping[str, Tensor]
    ) -> dict[str, LowRankWeight]:
        return {
            name: LowRankWeight(base[name], self.left[name], core, self.right[name])
            for name, core in zip(self.special, cores.unbind(1), strict=True)
        }

    def _split(self, flat: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        parts = torch.split(flat, [self.specs[name].size for name in names], dim=1)
        return {
            name: part.view(-1, *self.specs[name].shape)
            for name, part in zip(names, parts, strict=True)
        }


class StructureGuidedMapper(nn.Module):
    """A second extractor, started from the structural vector, and one hypernetwork per block.

    From the paper: the separate extractor, the structural vector as its guide, ``L`` parallel
    hypernetworks that share nothing. Ours: the vector enters as the initial state. With
    ``parallel=False`` (an ablation) one hypernetwork serves all blocks and is told which one by
    a learned embedding that is added to its condition.

    Args:
        blocks: The blocks to generate.
        hidden_size: ``D``.
        horizon: Longest initial memory of the extractor, in items.
        parallel: One hypernetwork per block, or one for all.
        form: See :class:`Hypernetwork`.
        rank: ``R``.
        scale: See :class:`Hypernetwork`.
        initializer_range: See :class:`Hypernetwork`.
        output_bias: Whether a bias of the output stage is generated too, linear in the interest
            (ours): what a user likes whatever came last. It belongs to no block, so that every
            structure has it.
        repeat_bias: Whether the number is generated too that is added to the scores of what the
            user has had already, linear in the interest (ours; :mod:`recbole_fofa.model.repeats`).

    Attributes:
        without_base: Names of the tensors that are generated whole, not as a change of a base.
    """

    def __init__(
        self,
        blocks: Sequence[BlockSpec],
        *,
        hidden_size: int,
        horizon: int,
        parallel: bool,
        form: MapperForm,
        rank: int,
        scale: float,
        initializer_range: float,
        output_bias: bool,
        repeat_bias: bool,
    ) -> None:
        super().__init__()
        self.extractor = SequenceExtractor(hidden_size, horizon)
        self.hypernetworks = nn.ModuleList(
            Hypernetwork(
                block.parameters,
                condition_size=hidden_size,
                form=form,
                rank=rank,
                scale=scale,
                initializer_range=initializer_range,
            )
            for block in (blocks if parallel else blocks[:1])
        )
        self.without_base = frozenset(
            name for name, spec in blocks[0].parameters.items() if form == "full" and spec.is_matrix
        )
        self.block_embedding = None if parallel else nn.Embedding(len(blocks), hidden_size)
        self.to_output_bias = nn.Linear(hidden_size, hidden_size) if output_bias else None
        if self.to_output_bias is not None:
            nn.init.normal_(self.to_output_bias.weight, std=initializer_range)
            nn.init.zeros_(self.to_output_bias.bias)
        self.to_repeat_bias = nn.Linear(hidden_size, 1) if repeat_bias else None
        if self.to_repeat_bias is not None:
            nn.init.normal_(self.to_repeat_bias.weight, std=initializer_range)
            nn.init.zeros_(self.to_repeat_bias.bias)

    def interest(
        self, behaviour: Tensor, lengths: Tensor, structural_vector: Tensor | None
    ) -> Tensor:
        """Structure-related interest ``[B, D]`` from behaviour ``[B, H, D]`` and its lengths."""
        interest: Tensor = self.extractor(behaviour, lengths, structural_vector)
        return interest

    def generate(
        self,
        index: int,
        interest: Tensor,
        base: Mapping[str, Tensor],
        changed: Tensor | None = None,
    ) -> BlockParameters:
        """Block ``index``'s tensors for each user, from interest ``[B, D]`` and the shared base.

        ``changed`` as in :meth:`Hypernetwork.forward`.
        """
        condition = self.condition(index, interest)
        generated: BlockParameters = self.hypernetwork(index)(condition, base, changed)
        return generated

    def output_bias(self, interest: Tensor) -> Tensor | None:
        """What is added to each user's hidden states, ``[B, D]``; ``None`` if nothing is."""
        if self.to_output_bias is None:
            return None
        bias: Tensor = self.to_output_bias(interest)
        return bias

    def repeat_bias(self, interest: Tensor) -> Tensor | None:
        """What is added to scores of items that a user has had, ``[B]``; ``None`` if nothing is."""
        if self.to_repeat_bias is None:
            return None
        bias: Tensor = self.to_repeat_bias(interest).squeeze(-1)
        return bias

    def hypernetwork(self, index: int) -> Hypernetwork:
        """Block ``index``'s own, or the one for all."""
        return cast(Hypernetwork, self.hypernetworks[index if self.block_embedding is None else 0])

    def condition(self, index: int, interest: Tensor) -> Tensor:
        """What block ``index``'s hypernetwork is told, ``[B, D]``."""
        if self.block_embedding is None:
            return interest
        return interest + self.block_embedding.weight[index]
