"""The cheap cloud model whose candidates a device reranks: what follows the last items."""

from __future__ import annotations

from itertools import islice

import numpy as np
from scipy.sparse import coo_array, csr_array

from recbole_fofa.data.sequences import Histories, IntArray

_WINDOW = 5
"""How far apart two items of a user may lie to count as neighbours, and items that are read."""


class Retriever:
    """Items that often follow the user's latest ones, then the most popular ones.

    Pairs of one user's training items count if they lie at most five apart, by one over their
    distance and over the square root of both items' popularity (so that what is popular
    everywhere is no neighbour of all). Of the user's five latest items the k-th latest counts by
    one over k. Memory is linear in the interactions.

    Args:
        histories: All users' items.
        places: Those places in ``histories`` that training knows.
        n_items: Rows of the item table, padding included.
    """

    def __init__(self, histories: Histories, places: IntArray, n_items: int) -> None:
        known = np.zeros(len(histories.items), dtype=bool)
        known[places] = True
        popularity = np.bincount(histories.items[known], minlength=n_items).astype(np.float64)
        popularity[0] = 0
        order = np.argsort(-popularity, kind="stable")
        self.by_popularity: list[int] = order[popularity[order] > 0].tolist()
        self.follows = self._neighbours(histories, known, popularity)

    @staticmethod
    def _neighbours(histories: Histories, known: np.ndarray, popularity: np.ndarray) -> csr_array:
        parts = []
        for distance in range(1, _WINDOW + 1):
            later = np.arange(distance, len(histories.items))
            same = histories.starts[later] == histories.starts[later - distance]
            later = later[same & known[later] & known[later - distance]]
            first, second = histories.items[later - distance], histories.items[later]
            weights = 1 / distance / np.sqrt(popularity[first] * popularity[second])
            parts.append((weights, first, second))
        weights, first, second = (np.concatenate(column) for column in zip(*parts, strict=True))
        size = len(popularity)
        return csr_array(coo_array((weights, (first, second)), shape=(size, size)))

    def retrieve(self, items: list[int], unwanted: set[int], n: int) -> list[int]:
        """The best candidates of one user, best first, ``<= n`` of them.

        Args:
            items: What the user has had, oldest first.
            unwanted: Items that are left out.
            n: How many.
        """
        scores: dict[int, float] = {}
        for rank, item in enumerate(items[::-1][:_WINDOW], start=1):
            row = slice(self.follows.indptr[item], self.follows.indptr[item + 1])
            others, weights = self.follows.indices[row].tolist(), self.follows.data[row].tolist()
            for other, weight in zip(others, weights, strict=True):
                scores[other] = scores.get(other, 0.0) + weight / rank
        for item in unwanted:
            scores.pop(item, None)
        found = sorted(scores, key=lambda item: (-scores[item], item))[:n]
        popular = (i for i in self.by_popularity if i not in unwanted and i not in scores)
        return [*found, *islice(popular, n - len(found))]
