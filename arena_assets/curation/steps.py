"""What each step of curation drops: its settings applied to the prompts that remain.

A step is given a DuckDB connection with the relations of `collection.remaining`, and returns rows
of prompt_drops: none where it is off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from duckdb import DuckDBPyConnection as Connection

from arena_assets.config.places import resolve
from arena_assets.config.prompts import Prompts
from arena_assets.curation import filters
from arena_assets.curation.collection import count, refuse_shared_ids
from arena_assets.curation.contamination import NEAR, Items, nearest
from arena_assets.curation.embeddings import BATCH, encode, load_encoder, stacked
from arena_assets.curation.held_out import held_out_drops
from arena_assets.curation.near_duplicates import near_duplicates
from arena_assets.curation.text import TEXT, WHOLE
from arena_assets.curation.words import words_in
from arena_assets.lake.lake import ALL, Lake
from arena_assets.lake.tables import PROMPT_DROPS

# connection, settings, lake -> what is dropped
Step = Callable[[Connection, Prompts, Lake], pa.Table]
_NOTHING = PROMPT_DROPS.schema.empty_table()


def unsafe(connection: Connection, prompts: Prompts, lake: Lake) -> pa.Table:
    """Prompts that hold a phrase of the lexicon or that the classifier scores."""
    refuse_shared_ids(connection)
    if prompts.unsafe is None:
        return _NOTHING
    lexicon = resolve(prompts.unsafe.lexicon) if prompts.unsafe.lexicon else None
    return filters.unsafe(connection, prompts.unsafe, lexicon)


def short(connection: Connection, prompts: Prompts, lake: Lake) -> pa.Table:
    """Prompts of fewer words than minimum_words."""
    return filters.short(connection, prompts.minimum_words)


def repeated_prefixes(connection: Connection, prompts: Prompts, lake: Lake) -> pa.Table:
    """Prompts that begin as another one."""
    return filters.repeated_prefixes(connection, prompts.prefix_words)


def near_duplicate(connection: Connection, prompts: Prompts, lake: Lake) -> pa.Table:
    """Prompts that nearly repeat another one."""
    settings = prompts.near_duplicates
    found = near_duplicates(words_in(connection, "remaining"), settings.threshold, settings.words)
    reason = f"word {settings.words}-grams overlap by {settings.threshold:.0%} or more"
    return _as_drops(found.to_pylist(), "near-duplicate", reason)


def contaminated(connection: Connection, prompts: Prompts, lake: Lake) -> pa.Table:
    """Prompts that repeat an item of a benchmark."""
    items = lake.query(
        "select benchmark as against, item_id, messages from benchmarks",
        benchmarks=("benchmarks", ALL),
    )
    return repeating(connection, prompts, lake, items)


def other_languages(connection: Connection, prompts: Prompts, lake: Lake) -> pa.Table:
    """Prompts in other languages than those that stay."""
    if prompts.language is None:
        return _NOTHING
    return filters.other_languages(connection, prompts.language)


DROPS: dict[str, Step] = {
    "dropped_unsafe": unsafe,
    "dropped_short": short,
    "dropped_prefixes": repeated_prefixes,
    "dropped_near_duplicates": near_duplicate,
    "dropped_contaminated": contaminated,
    "dropped_languages": other_languages,
}


def near_testset(
    connection: Connection, prompts: Prompts, lake: Lake, version: str
) -> tuple[int, pa.Table]:
    """How many prompts remain outside a version of the test set, and those that no slice may have.

    They repeat one of its prompts, or are of what it holds out.
    """
    items = lake.query(
        "select 'arena_testset' as against, prompt_id as item_id, messages from testset",
        testset=("testset_versions", version),
    )
    connection.register("held_out", items)
    connection.execute(
        """
        create or replace temp view outside as select * from remaining where prompt_id not in (
            select item_id from held_out)
        """
    )
    dropped = repeating(connection, prompts, lake, items, "outside")
    near = _near_held_out(connection, prompts, items, set(dropped["prompt_id"].to_pylist()))
    dropped = pa.concat_tables([dropped, near])
    held = held_out_drops(connection, "outside", lake, version)
    fresh = pc.invert(pc.is_in(held["prompt_id"], dropped["prompt_id"]))
    return count(connection, "outside"), pa.concat_tables([dropped, held.filter(fresh)])


def _near_held_out(
    connection: Connection, prompts: Prompts, items: pa.Table, known: set[str]
) -> pa.Table:
    """Near-duplicates of held-out prompts in the view `outside`, but those that are known.

    The step of near-duplicates keeps the first of two, whichever is held out.
    """
    settings = prompts.near_duplicates
    connection.execute(
        """
        create or replace temp view beside as
        select prompt_id, messages from outside union all select item_id, messages from held_out
        """
    )
    words = words_in(connection, "beside")
    groups: dict[str, list[str]] = {}
    for row in near_duplicates(words, settings.threshold, settings.words).to_pylist():
        groups.setdefault(row["match"], [row["match"]]).append(row["prompt_id"])
    test = set(items["item_id"].to_pylist())
    found = [
        {"prompt_id": one, "against": "arena_testset", "match": next(t for t in group if t in test)}
        for group in groups.values()
        if not test.isdisjoint(group)
        for one in group
        if one not in test and one not in known
    ]
    return _as_drops(sorted(found, key=lambda row: row["prompt_id"]), "decontamination", NEAR)


def repeating(
    connection: Connection,
    prompts: Prompts,
    lake: Lake,
    items: pa.Table,
    relation: str = "remaining",
) -> pa.Table:
    """The prompts of a relation that repeat one of `items` (against, item_id, messages)."""
    if not items.num_rows:
        return _NOTHING
    settings = prompts.decontamination
    known = Items(items, settings.words, settings.overlap)
    found = {row["prompt_id"]: row for row in known.exact(connection, relation)}
    for part in words_in(connection, relation, WHOLE):
        for row in known.overlapping(part):
            found.setdefault(row["prompt_id"], row)
    if settings.neighbours:
        for row in _neighbours(connection, prompts, lake, items, relation):
            found.setdefault(row["prompt_id"], row)
    return _as_drops(list(found.values()), "decontamination")


def _neighbours(
    connection: Connection,
    prompts: Prompts,
    lake: Lake,
    items: pa.Table,
    relation: str,
) -> list[dict[str, Any]]:
    settings = prompts.decontamination
    texts = lake.query(f"select against, item_id, {TEXT} as text from items", items=items)
    vectors = encode(
        load_encoder(prompts.encoder), texts["text"].to_pylist(), prompts.encoder.batch
    )
    names = list(zip(texts["against"].to_pylist(), texts["item_id"].to_pylist(), strict=True))
    connection.register("embedded", connection.read_parquet(str(lake.present("prompt_embeddings"))))
    reader = connection.sql(
        f"select prompt_id, embedding from embedded semi join {relation} using (prompt_id)"
    ).to_arrow_reader(BATCH)
    parts = (
        (batch.column("prompt_id").to_numpy(zero_copy_only=False), stacked(batch))
        for batch in reader
    )
    return nearest(names, vectors, parts, settings.neighbours, settings.similarity)


def _as_drops(found: list[dict[str, Any]], step: str, reason: str | None = None) -> pa.Table:
    rows = [{"reason": reason, **row, "step": step} for row in found]
    return pa.Table.from_pylist(rows, schema=PROMPT_DROPS.schema)


def nothing_left(sources: Sequence[str], dropped: pa.Table) -> str:
    """Why no prompt is left after a step that dropped these, and what to do about it."""
    if not dropped.num_rows:
        named = ", ".join(sources)
        return f"no prompt to curate: the sources ({named}) have none; see the table quarantine"
    counts = Counter(dropped["reason"].to_pylist()).most_common(3)
    reasons = ", ".join(f"{reason}: {count}" for reason, count in counts)
    return (
        f"no prompt is left: this step drops all {dropped.num_rows} that remained ({reasons}); "
        "add prompts or loosen its setting under prompts"
    )
