"""Battles as what a fit needs: who is compared with whom, and the points of each prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

_BATTLES_AT_ONCE = 2**20  # counted in one piece
# Fits solve systems of this size: past it, names that are no names (an id a row) are likelier.
MOST_CONTESTANTS = 5_000


class UnratableBattles(ValueError):
    """Battles that give no common scale; the message names the contestants."""


@dataclass(frozen=True)
class Comparisons:
    """Points of comparisons, prompt by prompt.

    A row of `design` (comparisons x parameters) is one comparison: 1 for the first contestant, -1
    for the second, and what else differs between them; the contestants are the first `size`
    parameters. `won[p, r]` and `lost[p, r]` are the points of the first and of the second
    contestant of comparison r on prompt p.
    """

    size: int
    design: csr_array
    won: csr_array
    lost: csr_array


@dataclass(frozen=True)
class Counts:
    """Contestants in alphabetical order, their comparisons by pair, and their results.

    `first` and `second` are the positions of each pair that met; `results` holds battles won, lost
    and tied: shape (contestants, 3).
    """

    contestants: list[str]
    first: np.ndarray
    second: np.ndarray
    comparisons: Comparisons
    results: np.ndarray

    @property
    def battles(self) -> int:
        """How many battles were counted."""
        return int(self.results.sum()) // 2


def count(battles: pa.Table) -> Counts:
    """Points by pair and prompt; UnratableBattles where they cannot be rated together.

    `battles` has the columns of ratings.battles.BATTLES; where it has families, they stand for
    prompts.
    """
    if not battles.num_rows:
        raise UnratableBattles("there are no decided battles or ties to rate")
    first, second, names = sides(battles)
    size = len(names)
    if size > MOST_CONTESTANTS:
        raise UnratableBattles(
            f"{size:,} contestants, of which {names[0]!r} is one; at most {MOST_CONTESTANTS:,} can "
            "be rated together: are these columns names?"
        )
    score, weight = battles["score"].to_numpy(), battles["weight"].to_numpy()
    prompt, prompts = positions(witnesses(battles))
    turned = first > second
    low, high = np.where(turned, second, first), np.where(turned, first, second)
    pairs, pair = np.unique(low.astype(np.int64) * size + high, return_inverse=True)
    shape = (len(prompts), len(pairs))
    share = np.where(turned, 1 - score, score)
    one, two = pairs // size, pairs % size
    _require_connection(names, one, two)
    return Counts(
        contestants=names,
        first=one,
        second=two,
        comparisons=Comparisons(
            size=size,
            design=design_of(one, two, size),
            won=_sums(weight * share, prompt, pair, shape),
            lost=_sums(weight * (1 - share), prompt, pair, shape),
        ),
        results=_results(first, second, score, size),
    )


def witnesses(battles: pa.Table) -> pa.ChunkedArray:
    """What battles count as one by: the prompt's family where there is one, else the prompt."""
    if "family" not in battles.column_names:
        return battles["prompt_id"]
    return pc.coalesce(battles["family"], battles["prompt_id"])


def design_of(first: np.ndarray, second: np.ndarray, size: int) -> csr_array:
    """A row a comparison: 1 in the column of the first contestant, -1 in that of the second."""
    rows = np.arange(len(first))
    values = np.concatenate([np.ones(len(rows)), -np.ones(len(rows))])
    where = np.concatenate([rows, rows]), np.concatenate([first, second])
    return coo_array((values, where), shape=(len(rows), size)).tocsr()


def sides(battles: pa.Table) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Positions of the first and the second contestants among all, and the sorted names."""
    both = pa.chunked_array([*battles["contestant_1"].chunks, *battles["contestant_2"].chunks])
    found, names = positions(both)
    return found[: battles.num_rows], found[battles.num_rows :], names


def positions(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """The position of each value among the sorted distinct ones, and those."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    values = np.array(encoded.dictionary.to_pylist(), dtype=object)
    order = np.argsort(values)
    position = np.empty(len(values), np.int32)
    position[order] = np.arange(len(values))
    return position[encoded.indices.to_numpy()], values[order].tolist()


def _sums(
    values: np.ndarray, prompt: np.ndarray, pair: np.ndarray, shape: tuple[int, int]
) -> csr_array:
    """Points summed by prompt and pair; in pieces, so that many battles need little memory."""
    total = csr_array(shape)
    for start in range(0, len(values), _BATTLES_AT_ONCE):
        part = slice(start, start + _BATTLES_AT_ONCE)
        scored = values[part] > 0
        where = prompt[part][scored], pair[part][scored]
        total = total + coo_array((values[part][scored], where), shape=shape).tocsr()
    return total


def _results(first: np.ndarray, second: np.ndarray, score: np.ndarray, size: int) -> np.ndarray:
    results = np.zeros((size, 3), np.int64)
    for side, own in ((first, score), (second, 1 - score)):
        for column, held in enumerate((own > 0.5, own < 0.5, own == 0.5)):
            results[:, column] += np.bincount(side[held], minlength=size)
    return results


def _require_connection(names: list[str], first: np.ndarray, second: np.ndarray) -> None:
    """UnratableBattles where groups of contestants never met: they share no scale."""
    met = coo_array((np.ones(len(first)), (first, second)), shape=(len(names),) * 2)
    groups, group = connected_components(met, directed=False)
    if groups > 1:
        listed = [
            ", ".join(n for n, g in zip(names, group, strict=True) if g == k) for k in range(groups)
        ]
        raise UnratableBattles(
            "these groups never met, so they share no scale: " + " | ".join(listed)
        )
