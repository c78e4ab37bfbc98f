"""How DuckDB reads what is said: texts of conversations, their plain spelling, and their words.

One rule for prompts, lexicon and benchmarks: a word is a run of letters, marks and digits of the
plain text; in scripts that do not space words, a letter with its marks. DuckDB does it for a
quarter of a million prompts in seconds; it asks Python only where lower case is not all.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import duckdb
import pyarrow as pa
from duckdb.func import PythonUDFType

from arena_assets.curation import signs
from arena_assets.curation.plain import plain

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


def spoken(relation: str, text: str = TEXT) -> str:
    """SQL of a relation with text (the expression given), said (it in plain spelling) and words.

    Letters of scripts without blanks are spaced in `said`. It needs the functions of `with_words`.
    """
    spaced = (
        rf"if(regexp_matches(plain, '{_LETTER}'), "
        rf"regexp_replace(plain, '{_CLUSTER}', ' \1 ', 'g'), plain)"
    )
    # each step is a column of its own, so that it is computed once
    return f"""(
        select *, regexp_extract_all(said, '{WORD}') as words from (
            select * exclude (plain), {spaced} as said from (
                select *, {_plain("text")} as plain from (select *, {text} as text from {relation})
            )
        )
    )"""


# the text of the first $words words, with what stands between them and is attached to the last one
BEGINNING = (
    rf"array_to_string(regexp_extract_all(said, '[^\p{{L}}\p{{M}}\p{{N}}]*{WORD}"
    r"[^\s\p{L}\p{M}\p{N}]*')[:$words], '')"
)


def with_words(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """The connection with the functions plain_text, signs_of and guard_of: text to text."""
    for name, function in (("plain_text", _PLAIN), ("signs_of", _SIGNS), ("guard_of", _GUARD)):
        with suppress(duckdb.NotImplementedException):  # it has them already
            connection.create_function(
                name, function, ["VARCHAR"], "VARCHAR", type=PythonUDFType.ARROW
            )
    return connection


def _each(function: Callable[[str], str]) -> Callable[[pa.ChunkedArray], pa.Array]:
    return lambda texts: pa.array(map(function, texts.to_pylist()), pa.string())


_PLAIN = _each(plain)
_SIGNS = _each(lambda text: " ".join(signs.signs(plain(text))))
_GUARD = _each(signs.guard)
