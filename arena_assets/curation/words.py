"""What prompts are compared by: the words of their plain text, as hashes, and n-grams.

DuckDB reads the words of a conversation; from there on they are flat arrays of 64-bit hashes with
the offsets of the rows, so that a quarter of a million prompts take seconds and 8 bytes a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from arena_assets.curation.text import TEXT, spoken, with_words
from arena_assets.lake.tables import MESSAGES

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, as in Fibonacci hashing


@dataclass(frozen=True)
class Rows:
    """Hashes (uint64) of all rows one after the other; row i is values[offsets[i]:offsets[i+1]].

    `texts` are what they were read from, where they come from DuckDB.
    """

    ids: np.ndarray
    values: np.ndarray
    offsets: np.ndarray
    texts: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def row_of_value(self) -> np.ndarray:
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, rows: np.ndarray) -> Rows:
        """Some of the rows, in the order given."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return Rows(self.ids[rows], self.values[places], offsets)


def words_in(
    connection: duckdb.DuckDBPyConnection, relation: str, text: str = TEXT, batch_rows: int = 10_000
) -> Iterator[Rows]:
    """The hashed words of a relation with prompt_id and messages; `text` is SQL: TEXT or WHOLE."""
    found = with_words(connection).sql(
        f"""
        select prompt_id, list_transform(words, lambda w: hash(w)) as words, text
        from {spoken(relation, text)}
        """
    )
    for batch in found.to_arrow_reader(batch_rows):
        column = batch.column("words")
        yield Rows(
            batch.column("prompt_id").to_numpy(zero_copy_only=False),
            column.flatten().to_numpy(zero_copy_only=False).astype(np.uint64, copy=False),
            np.concatenate([[0], np.cumsum(column.value_lengths().to_numpy(), dtype=np.int64)]),
            batch.column("text"),
        )


def together(parts: Iterable[Rows]) -> Rows:
    """Several parts as one, in their order."""
    parts = list(parts)
    if not parts:
        return Rows(np.empty(0, object), np.empty(0, np.uint64), np.zeros(1, np.int64))
    lengths = np.concatenate([part.lengths for part in parts])
    return Rows(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
    )


def grams(words: Rows, size: int) -> Rows:
    """The distinct runs of `size` words of every row, sorted."""
    every = runs(words, size)
    row = every.row_of_value
    order = np.lexsort((every.values, row))
    row, values = row[order], every.values[order]
    first = np.ones(len(row), bool)
    first[1:] = (row[1:] != row[:-1]) | (values[1:] != values[:-1])
    lengths = np.bincount(row[first], minlength=len(words))
    return Rows(words.ids, values[first], np.concatenate([[0], np.cumsum(lengths)]))


def runs(words: Rows, size: int) -> Rows:
    """The hash of every run of `size` words; a row of fewer words is one run of its own.

    Two runs have one hash where their words and their number of words are the same.
    """
    count = len(words.values)
    row, ends = words.row_of_value, np.repeat(words.offsets[1:], words.lengths)
    place = np.arange(count)
    found = words.values.copy()
    with np.errstate(over="ignore"):
        for step in range(1, min(size, count)):
            mixed = (found[:-step] ^ (found[:-step] >> np.uint64(29))) * _MULTIPLIER
            inside = place[:-step] + step < ends[:-step]
            found[:-step] = np.where(inside, mixed + words.values[step:], found[:-step])
    whole = (place + size <= ends) | (place == words.offsets[:-1][row])
    lengths = np.bincount(row[whole], minlength=len(words))
    return Rows(words.ids, found[whole], np.concatenate([[0], np.cumsum(lengths)]))


def words_of(prompts: pa.Table, batch_rows: int = 20_000) -> Iterator[Rows]:
    """The hashed words of a table with prompt_id and messages."""
    assert prompts.schema.field("messages").type == MESSAGES
    with duckdb.connect() as connection:
        connection.register("prompts", prompts)
        yield from words_in(connection, "prompts", TEXT, batch_rows)
