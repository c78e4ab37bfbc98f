"""Near-duplicates: MinHash-LSH proposes pairs, their exact similarity decides.

The similarity of two prompts is the Jaccard index of their sets of word n-grams. Two with another
guard (signs, numbers, negations, names in code: see signs.py) are never a pair. Prompts that are
connected by similar pairs form a group, of which the first one stays; a group has one guard, so
that no prompt goes for one with another number, not even by way of a third. Neither the order of
the rows nor the batches they come in change the result: candidates depend on the sets alone, groups
are connected components, and the first of a group is that of the order of the identifiers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from arena_assets.curation.signs import guard
from arena_assets.curation.words import Rows, grams, runs, together

_PERMUTATIONS, _BANDS, _SEED = 128, 32, 42  # a pair at 0.8 is missed once in ten million
_PARTNERS = 16  # candidates a prompt and band, beside the first of the bucket
_PAIRS, _BATCH = 100_000, 20_000  # pairs compared, rows hashed at once

MATCHES = pa.schema([("prompt_id", pa.string()), ("match", pa.string()), ("score", pa.float64())])


def near_duplicates(parts: Iterable[Rows], threshold: float, size: int) -> pa.Table:
    """Prompts that repeat an earlier one: prompt_id, the match that stays, their similarity.

    `parts` are hashed words with their texts, in any order and of any length; `size` is the words
    of a gram. The similarity may be below `threshold` where a group is connected through others.
    """
    from rensa import RMinHashLSH

    index = RMinHashLSH(threshold, _PERMUTATIONS, _BANDS)
    kept, matrices, count = [], [], 0
    for part in parts:
        matrices.append(signatures(runs(part, size)))
        index.insert_matrix(matrices[-1], count)
        kept.append(part)
        count += len(part)
    # prompts that share no band with any other need no further look
    flags = [index.query_duplicate_flags_matrix(matrix) for matrix in matrices]
    proposed = np.flatnonzero(np.concatenate([np.empty(0, bool), *flags]))
    del index, matrices
    if not len(proposed):
        return MATCHES.empty_table()
    words = together(kept).take(proposed)
    guards = _guards(pa.chunked_array([part.texts for part in kept]).take(proposed))
    order = np.argsort(words.ids.astype(str))
    words, guards = words.take(order), guards[order]
    sets = _Sets(grams(words, size))
    group = _groups(_band_keys(words, size, guards), sets, threshold)
    first = np.full(len(words), len(words))
    np.minimum.at(first, group, np.arange(len(words)))
    match = first[group]
    dropped = np.flatnonzero(match != np.arange(len(words)))
    found = pa.table(
        {
            "prompt_id": words.ids[dropped],
            "match": words.ids[match[dropped]],
            "score": sets.jaccard(dropped, match[dropped]),
        },
        schema=MATCHES,
    )
    return found.sort_by("prompt_id")


def signatures(runs_of_words: Rows) -> Any:
    """rensa's matrix of one MinHash signature a row."""
    from rensa import RMinHash

    return RMinHash.digest_matrix_from_flat_token_hashes(
        runs_of_words.values, runs_of_words.offsets.astype(np.uint64), _PERMUTATIONS, _SEED
    )


def _guards(texts: pa.ChunkedArray) -> np.ndarray:
    """A number a row, the same for two rows where their guards are."""
    found = pa.array([guard(text) for text in texts.to_pylist()], pa.string())
    return found.dictionary_encode().indices.to_numpy().astype(np.uint64)


def _band_keys(words: Rows, size: int, guards: np.ndarray) -> np.ndarray:
    """(rows, bands) keys: two rows with the same key in a band are candidates."""
    keys = [np.empty((0, _BANDS), np.uint64)]
    for start in range(0, len(words), _BATCH):
        some = words.take(np.arange(start, min(start + _BATCH, len(words))))
        digests = np.array(signatures(runs(some, size)).to_rows(), dtype=np.uint64)
        digests = digests.reshape(len(some), _BANDS, -1)
        key = np.repeat(guards[start : start + len(some), None], _BANDS, axis=1)
        with np.errstate(over="ignore"):
            for column in range(digests.shape[2]):
                key = (key ^ (key >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
                key += digests[:, :, column]
        keys.append(key)
    return np.concatenate(keys)


def _groups(keys: np.ndarray, sets: _Sets, threshold: float) -> np.ndarray:
    """The number of the group of every row."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(keys)
    group = np.arange(count)
    one, two = np.empty(0, np.int64), np.empty(0, np.int64)
    for band in range(_BANDS):
        for a, b in _candidates(keys[:, band]):
            unknown = group[a] != group[b]
            a, b = a[unknown], b[unknown]
            similar = sets.jaccard(a, b) >= threshold
            one, two = np.concatenate([one, a[similar]]), np.concatenate([two, b[similar]])
        edges = coo_array((np.ones(len(one), bool), (one, two)), (count, count))
        group = connected_components(edges, directed=False)[1]
    return group


def _candidates(keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of rows in one bucket; in a large one each row meets the first and the next few."""
    order = np.argsort(keys, kind="stable")
    sorted_keys = keys[order]
    starts = np.flatnonzero(np.r_[True, sorted_keys[1:] != sorted_keys[:-1]])
    first = np.repeat(starts, np.diff(np.r_[starts, len(keys)]))
    away = np.flatnonzero(np.arange(len(keys)) - first > _PARTNERS)
    yield order[first[away]], order[away]
    for step in range(1, min(_PARTNERS, len(keys) - 1) + 1):
        same = np.flatnonzero(sorted_keys[step:] == sorted_keys[:-step])
        if not len(same):
            return
        yield order[same], order[same + step]


class _Sets:
    """Sets of grams as a sparse matrix with a column a hash."""

    def __init__(self, sets: Rows):
        from scipy.sparse import csr_array

        columns = (sets.values >> np.uint64(2)).astype(np.int64)  # stays sorted, fits in int64
        ones = np.ones(len(columns), np.int32)
        self._matrix = csr_array(
            (ones, columns, sets.offsets.astype(np.int64)), shape=(len(sets), 2**62)
        )
        self._sizes = sets.lengths

    def jaccard(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        """The similarity of each pair of rows."""
        found = [np.empty(0)]
        for start in range(0, len(one), _PAIRS):
            a, b = one[start : start + _PAIRS], two[start : start + _PAIRS]
            common = self._matrix[a].multiply(self._matrix[b]).sum(axis=1)
            found.append(common / np.maximum(self._sizes[a] + self._sizes[b] - common, 1))
        return np.concatenate(found)
