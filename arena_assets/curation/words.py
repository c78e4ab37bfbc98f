"""What prompts are compared by: the words of their plain text, as hashes, and n-grams.

DuckDB reads the words of a conversation; from there on they are flat arrays of 64-bit hashes with
the offsets of the rows, so that a quarter of a million prompts take seconds and 8 bytes a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from arena_assets.curation import signs
from arena_assets.curation.plain import plain
from arena_assets.tables import MESSAGES

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, as in Fibonacci hashing

_SAID = "array_to_string(list_transform({}, lambda m: m.content), chr(10))"
WHOLE = _SAID.format("messages")
# A system message is no part of the request: many prompts share one.
TEXT = _SAID.format("list_filter(messages, lambda m: m.role != 'system')")

WORD = r"[\p{L}\p{M}\p{N}]+"
# Scripts that do not space their words: each of their letters with its marks, and with what is
# stacked below it, counts as a word.
_UNSPACED = (
    "Han Hiragana Katakana Bopomofo Yi Thai Lao Khmer Myanmar Tai_Le New_Tai_Lue Tai_Tham Tai_Viet "
    "Javanese Balinese"
)
_LETTER = "(?:" + "|".join(rf"[^\P{{L}}\P{{{script}}}]" for script in _UNSPACED.split()) + ")"
_CLUSTER = rf"({_LETTER}(?:[\x{{1039}}\x{{17D2}}\x{{1A60}}]\p{{L}}|\p{{M}})*)"
# Texts whose words are the same in lower case as in plain text, which saves most calls of Python:
# those of these characters and of ASCII, and Russian ones without a word that is Latin in part.
_SIMPLE = (
    r"\x00-\x7FÀ-ÖØ-Þà-öø-ÿĀ-įıĴ-ľŁ-ňŊ-žƠơƯưẠ-ỹ一-鿿ぁ-ゖァ-ヺ가-힣‘’“”–—…•\x{A0}\x{FFFD}、。，！（）：；？"
    r"\x{1F300}-\x{1F3FA}\x{1F400}-\x{1FAFF}"
)
_RUSSIAN, _LATIN = "А-яЁё", "A-Za-zÀ-ÖØ-öø-žƠơƯưẠ-ỹ"
_NO_LOOK_ALIKE = "бджзийлпфцчшщъыэюя"


def _plain(text: str) -> str:
    """SQL of the plain text of an expression, as far as its words go."""
    return f"""
        case when contains({text}, '&') then plain_text({text})
             when strlen({text}) = length({text}) then lower({text})
             when not regexp_matches({text}, '[^{_SIMPLE}]') then lower({text})
             when not regexp_matches({text}, '[^{_SIMPLE}{_RUSSIAN}]')
                  and regexp_matches({text}, '[{_NO_LOOK_ALIKE}]')
                  and not regexp_matches(
                      {text}, '[{_LATIN}][{_RUSSIAN}]|[{_RUSSIAN}][{_LATIN}]') then lower({text})
             else plain_text({text}) end"""


def _spaced(text: str) -> str:
    said = _plain(text)
    return (
        rf"if(regexp_matches({said}, '{_LETTER}'), "
        rf"regexp_replace({said}, '{_CLUSTER}', ' \1 ', 'g'), {said})"
    )


def words(text: str) -> str:
    """SQL of the words of an expression: runs of letters, marks and digits of its plain text.

    It needs the functions of `with_words`.
    """
    return f"regexp_extract_all({_spaced(text)}, '{WORD}')"


WORDS = words(TEXT)
# the text of the first $words words, with what stands between them and is attached to the last one
BEGINNING = (
    f"if(len({WORDS}) <= $words, {TEXT}, array_to_string(regexp_extract_all("
    rf"{_spaced(TEXT)}, '[^\p{{L}}\p{{M}}\p{{N}}]*{WORD}[^\s\p{{L}}\p{{M}}\p{{N}}]*')"
    "[:$words], ''))"
)


def with_words(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """The connection with the functions plain_text, signs_of and guard_of: text to text."""
    for name, function in (("plain_text", _PLAIN), ("signs_of", _SIGNS), ("guard_of", _GUARD)):
        with suppress(duckdb.NotImplementedException):  # it has them already
            connection.create_function(name, function, ["VARCHAR"], "VARCHAR", type="arrow")
    return connection


def _each(function: Callable[[str], str]) -> Callable[[pa.ChunkedArray], pa.Array]:
    return lambda texts: pa.array(map(function, texts.to_pylist()), pa.string())


_PLAIN = _each(plain)
_SIGNS = _each(lambda text: " ".join(signs.signs(plain(text))))
_GUARD = _each(signs.guard)


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
    hashes = f"list_transform({words(text)}, lambda w: hash(w))"
    found = with_words(connection).sql(
        f"select prompt_id, {hashes} as words, {text} as text from {relation}"
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
