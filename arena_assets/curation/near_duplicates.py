"""Near-duplicates: MinHash-LSH proposes pairs, their exact similarity decides.

The similarity of two prompts is the Jaccard index of their sets of word n-grams. Prompts that are
connected by similar pairs form a group, of which the first one stays. Neither the order of the rows
nor the batches they come in change the result: candidates depend on the sets alone, groups are
connected components, and the first of a group is that of the order of the identifiers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import numpy as np
import pyarrow as pa

from arena_assets.curation.words import Rows, grams, together

_PERMUTATIONS, _BANDS, _SEED = 128, 32, 42  # a pair at 0.8 is missed once in ten million
_PARTNERS = 16  # candidates a prompt and band, beside the first of the bucket
_PAIRS = 100_000  # compared at once

MATCHES = pa.schema([("prompt_id", pa.string()), ("match", pa.string()), ("score", pa.float64())])


def near_duplicates(
    parts: Iterable[Rows], threshold: float, size: int, settled: Collection[str] = ()
) -> pa.Table:
    """Prompts that repeat an earlier one: prompt_id, the match that stays, their similarity.

    `parts` are hashed words in any order and of any length; `size` is the words of a gram. Prompts
    in `settled` stay, whatever they repeat. The similarity may be below `threshold` where a group
    is connected through others.
    """
    bands, kept = [], []
    for part in parts:
        bands.append(_band_keys(grams(part, size)))
        kept.append(part)
    words = together(kept)
    if not len(words):
        return MATCHES.empty_table()
    is_settled = np.isin(words.ids.astype(str), np.array(sorted(settled), dtype=str))
    order = np.lexsort((words.ids.astype(str), ~is_settled))
    keys = np.concatenate(bands)[order]
    words, is_settled = words.take(order), is_settled[order]
    group = _groups(keys, words, threshold, size)
    first = np.full(len(words), len(words))
    np.minimum.at(first, group, np.arange(len(words)))
    match = first[group]
    dropped = np.flatnonzero((match != np.arange(len(words))) & ~is_settled)
    involved, places = np.unique(
        np.concatenate([dropped, match[dropped]]), return_inverse=True
    )
    sets = _Sets(grams(words.take(involved), size))
    half = len(dropped)
    found = pa.table(
        {
            "prompt_id": words.ids[dropped],
            "match": words.ids[match[dropped]],
            "score": sets.jaccard(places[:half], places[half:]),
        },
        schema=MATCHES,
    )
    return found.sort_by("prompt_id")


def _band_keys(sets: Rows) -> np.ndarray:
    """(rows, bands) keys: two rows with the same key in a band are candidates."""
    from rensa import RMinHash

    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        sets.values, sets.offsets.astype(np.uint64), _PERMUTATIONS, _SEED
    )
    digests = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(sets), _BANDS, -1)
    keys = np.zeros((len(sets), _BANDS), np.uint64)
    with np.errstate(over="ignore"):
        for column in range(digests.shape[2]):
            keys = (keys ^ (keys >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
            keys += digests[:, :, column]
    return keys


def _groups(keys: np.ndarray, words: Rows, threshold: float, size: int) -> np.ndarray:
    """The number of the group of every row."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # rows that share no key with any other need no comparison, and no memory for their sets
    shared = np.zeros(len(words), bool)
    for band in range(keys.shape[1]):
        _, places, counts = np.unique(keys[:, band], return_inverse=True, return_counts=True)
        shared |= counts[places] > 1
    rows = np.flatnonzero(shared)
    sets = _Sets(grams(words.take(rows), size))
    group = np.arange(len(rows))
    one, two = np.empty(0, np.int64), np.empty(0, np.int64)
    for band in range(keys.shape[1]):
        for a, b in _candidates(keys[rows, band]):
            unknown = group[a] != group[b]
            a, b = a[unknown], b[unknown]
            similar = sets.jaccard(a, b) >= threshold
            one, two = np.concatenate([one, a[similar]]), np.concatenate([two, b[similar]])
        edges = coo_array((np.ones(len(one), bool), (one, two)), (len(rows), len(rows)))
        group = connected_components(edges, directed=False)[1]
    everyone = np.arange(len(words)) + len(rows)
    everyone[rows] = group
    return np.unique(everyone, return_inverse=True)[1]


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
