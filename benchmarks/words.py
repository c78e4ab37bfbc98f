"""What comparing words costs: `python benchmarks/words.py FOLDER`, about a minute.

Seconds of CPU for the steps that read words, on the 69K synthetic prompts of curation.py; how many
near-duplicates the guard keeps, there and among the real prompts of FOLDER; and which words look-
alike letters merge.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from curation import real_prompts, synthesise

from arena_assets.config.prompts import Unsafe
from arena_assets.curation import filters, near_duplicates, plain
from arena_assets.curation.contamination import Items
from arena_assets.curation.words import words_in
from arena_assets.lake.tables import MESSAGES

COUNT = 69_000
LEXICON = Path(__file__).resolve().parents[1] / "data/lexicons/unsafe.txt"


def as_table(texts: list[str]) -> pa.Table:
    """Prompts as steps see them, none settled."""
    messages = [[{"role": "user", "content": text}] for text in texts]
    ids = [f"p{number:06d}" for number in range(len(texts))]
    settled = [False] * len(texts)
    return pa.table(
        {"prompt_id": ids, "messages": pa.array(messages, MESSAGES), "settled": settled}
    )


def timed(name: str, step: Callable[[], Any]) -> Any:
    """The result of a step, its seconds of CPU printed."""
    started = time.process_time()
    found = step()
    print(f"{name:34} {time.process_time() - started:6.2f} s of CPU")
    return found


def steps(connection: duckdb.DuckDBPyConnection, items: pa.Table) -> None:
    """Every step that reads words, over the relation `remaining`."""
    timed("words", lambda: sum(len(part.values) for part in words_in(connection, "remaining")))
    timed("dropped_unsafe", lambda: filters.unsafe(connection, Unsafe(), LEXICON))
    timed("dropped_short", lambda: filters.short(connection, 10))
    timed("dropped_prefixes, 10 words", lambda: filters.repeated_prefixes(connection, 10))
    known = timed("items of the benchmarks", lambda: Items(items, 3, 0.5))
    timed("same words as an item", lambda: known.exact(connection, "remaining"))
    parts = list(words_in(connection, "remaining"))
    timed("n-grams of an item", lambda: [known.overlapping(part) for part in parts])


def guarded(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Near-duplicates with and without the guard."""

    def drops() -> set[str]:
        parts = words_in(connection, "remaining")
        return set(near_duplicates.near_duplicates(parts, 0.8, 3)["prompt_id"].to_pylist())

    with_guard = timed(f"near-duplicates, {name}", drops)
    guard, near_duplicates.guard = near_duplicates.guard, lambda text: ""
    without = timed("  without the guard", drops)
    near_duplicates.guard = guard
    print(f"  {len(without)} without, {len(with_guard)} with the guard: ", end="")
    print(f"{1 - len(with_guard) / max(len(without), 1):.1%} stay")


def look_alikes(texts: list[str]) -> None:
    """The words that are read as Latin, and those of them that then equal another word."""
    said = [" ".join(re.findall(r"\w+", plain.plain(text))) for text in texts]
    read, plain._in_latin = plain._in_latin, lambda text: text
    as_is = [" ".join(re.findall(r"\w+", plain.plain(text))) for text in texts]
    plain._in_latin = read
    known = {word for text in as_is for word in text.split()}
    pairs = {
        (one, two)
        for before, after in zip(as_is, said, strict=True)
        for one, two in zip(before.split(), after.split(), strict=True)
        if one != two
    }
    merged = sorted(f"{one} = {two}" for one, two in pairs if two in known)
    print(f"look-alikes: {len(pairs)} of {len(known)} words of {len(texts)} real prompts are read")
    print(f"  as Latin, {len(merged)} of them as a word that is there: {', '.join(merged)}")


def main(folder: Path) -> None:
    real = real_prompts(folder)
    items = as_table(real).rename_columns({"prompt_id": "item_id"})
    items = items.append_column("against", pa.array(["real"] * len(real)))
    for name, texts in (("synthetic", synthesise(real, COUNT, COUNT)), ("real", real)):
        share = sum(not text.isascii() for text in texts) / len(texts)
        print(f"{len(texts)} {name} prompts, {share:.0%} not all ASCII")
        with duckdb.connect() as connection:
            connection.register("remaining", as_table(texts))
            if name == "synthetic":
                steps(connection, items)
            guarded(connection, name)
    look_alikes(real)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
