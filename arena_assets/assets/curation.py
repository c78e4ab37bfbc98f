"""The steps of curation, one asset each, in their order; every one writes only what it drops."""

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import dagster as dg
import duckdb
import numpy as np
import pyarrow as pa

from arena_assets.assets.metadata import markdown_table, table_metadata
from arena_assets.assets.records import recorded
from arena_assets.config.places import resolve
from arena_assets.curation import filters
from arena_assets.curation.collection import STEPS, count, refuse_shared_ids, remaining
from arena_assets.curation.contamination import EXACT, NEIGHBOUR, OVERLAP, Items, nearest
from arena_assets.curation.embeddings import encode, load_encoder
from arena_assets.curation.near_duplicates import near_duplicates
from arena_assets.curation.testset import current_version
from arena_assets.curation.text import TEXT, WHOLE
from arena_assets.curation.words import words_in
from arena_assets.flywheel.arena import Arena
from arena_assets.lake.lake import Lake
from arena_assets.lake.tables import PROMPT_DROPS, PROMPT_EMBEDDINGS

_BATCH = 10_000  # rows
_EXAMPLES = 3  # a benchmark and rule
Step = Callable[[duckdb.DuckDBPyConnection, Arena], pa.Table | None]


def _step(table: str, deps: list[str], description: str, drops: Step) -> dg.AssetsDefinition:
    """An asset that writes the drops of one step; a step that is off drops nothing."""

    @dg.asset(
        name=table, group_name="prompts", kinds={"parquet"}, deps=deps, description=description
    )
    @partial(recorded, table=table)
    def step(
        context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
    ) -> dg.MaterializeResult:
        with remaining(arena.lake, source_names(arena), table) as connection:
            before = count(connection, "remaining")
            dropped = drops(connection, arena)
        written = written_drops(context, arena, table, dropped, before)
        if before == (dropped.num_rows if dropped else 0):
            raise dg.Failure(_nothing_left(arena, dropped), allow_retries=False)
        return written

    return step


def source_names(arena: Arena) -> list[str]:
    return [source.name for source in arena.profile.prompts.sources]


def materialized(lake: Lake, table: str, **more: Any) -> dg.MaterializeResult:
    """What an asset without partitions says of the table that it wrote."""
    return dg.MaterializeResult(
        metadata=table_metadata(lake, table, **more),
        data_version=dg.DataVersion(lake.digest(table)),
    )


def written_drops(
    context: dg.AssetExecutionContext,
    arena: dg.ResourceParam[Arena],
    table: str,
    dropped: pa.Table | None,
    before: int,
) -> dg.MaterializeResult:
    """Write the drops of a step; its metadata counts them by reason."""
    dropped = PROMPT_DROPS.schema.empty_table() if dropped is None else dropped
    arena.lake.write(table, dropped.sort_by("prompt_id"))
    context.log.info(f"{before} prompts: {dropped.num_rows} dropped")
    return materialized(
        arena.lake, table, prompts_before=before, reasons=counted_reasons(arena, table)
    )


def _nothing_left(arena: Arena, dropped: pa.Table | None) -> str:
    if not dropped:
        sources = ", ".join(source_names(arena))
        return f"no prompt to curate: the sources ({sources}) have none; see the table quarantine"
    counts = Counter(dropped["reason"].to_pylist()).most_common(3)
    reasons = ", ".join(f"{reason}: {count}" for reason, count in counts)
    return (
        f"no prompt is left: this step drops all {dropped.num_rows} that remained ({reasons}); "
        "add prompts or loosen its setting under prompts"
    )


def counted_reasons(arena: Arena, table: str) -> dg.MarkdownMetadataValue:
    """How many prompts a table of drops holds by step, reason and benchmark."""
    counted = arena.lake.query(
        """
        select step, reason, against, count(*) as rows from drops
        group by all order by rows desc, step, reason, against limit 50
        """,
        drops=(table, "all"),
    )
    return dg.MetadataValue.md(markdown_table(counted))


def _unsafe(connection, arena):
    refuse_shared_ids(connection)
    settings = arena.profile.prompts.unsafe
    if settings is None:
        return None
    lexicon = resolve(settings.lexicon) if settings.lexicon else None
    return filters.unsafe(connection, settings, lexicon)


def _near_duplicates(connection, arena):
    settings = arena.profile.prompts.near_duplicates
    found = near_duplicates(words_in(connection, "remaining"), settings.threshold, settings.words)
    reason = f"word {settings.words}-grams overlap by {settings.threshold:.0%} or more"
    return _as_drops(found.to_pylist(), "near-duplicate", reason)


def _as_drops(found: list[dict[str, Any]], step: str, reason: str | None = None) -> pa.Table:
    rows = [{"reason": reason, **row, "step": step} for row in found]
    return pa.Table.from_pylist(rows, schema=PROMPT_DROPS.schema)


def _contaminated(connection, arena):
    items = arena.lake.query(
        "select benchmark as against, item_id, messages from benchmarks",
        benchmarks=("benchmarks", "all"),
    )
    return contaminated(connection, arena, items)


def contaminated(
    connection: duckdb.DuckDBPyConnection,
    arena: Arena,
    items: pa.Table,
    prompts: str = "remaining",
) -> pa.Table | None:
    """The prompts of a relation that repeat one of `items` (against, item_id, messages)."""
    if not items.num_rows:
        return None
    settings = arena.profile.prompts.decontamination
    known = Items(items, settings.words, settings.overlap)
    found = {row["prompt_id"]: row for row in known.exact(connection, prompts)}
    for part in words_in(connection, prompts, WHOLE):
        for row in known.overlapping(part):
            found.setdefault(row["prompt_id"], row)
    if settings.neighbours:
        for row in _neighbours(connection, arena, items, prompts):
            found.setdefault(row["prompt_id"], row)
    return _as_drops(list(found.values()), "decontamination")


def _neighbours(connection, arena, items, prompts) -> list[dict[str, Any]]:
    encoder, settings = arena.profile.prompts.encoder, arena.profile.prompts.decontamination
    texts = arena.lake.query(f"select against, item_id, {TEXT} as text from items", items=items)
    vectors = encode(load_encoder(encoder), texts["text"].to_pylist(), encoder.batch)
    names = list(zip(texts["against"].to_pylist(), texts["item_id"].to_pylist(), strict=True))
    connection.register(
        "embedded", connection.read_parquet(str(arena.lake.present("prompt_embeddings")))
    )
    reader = connection.sql(
        f"select prompt_id, embedding from embedded semi join {prompts} using (prompt_id)"
    ).to_arrow_reader(_BATCH)
    parts = (
        (batch.column("prompt_id").to_numpy(zero_copy_only=False), stacked(batch))
        for batch in reader
    )
    return nearest(names, vectors, parts, settings.neighbours, settings.similarity)


def stacked(batch: pa.RecordBatch | pa.Table) -> np.ndarray:
    """(rows, dimensions) float32 of the column embedding."""
    column = batch.column("embedding")
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


dropped_unsafe = _step(
    "dropped_unsafe",
    ["prompts"],
    "Prompts that are unsafe or toxic: a phrase of the lexicon, or the classifier's score.",
    _unsafe,
)
dropped_short = _step(
    "dropped_short",
    ["prompts", *STEPS[:1]],
    "Prompts with fewer words than minimum_words.",
    lambda connection, arena: filters.short(connection, arena.profile.prompts.minimum_words),
)
dropped_prefixes = _step(
    "dropped_prefixes",
    ["prompts", *STEPS[:2]],
    "Prompts that begin with the same prefix_words words as another one.",
    lambda connection, arena: filters.repeated_prefixes(
        connection, arena.profile.prompts.prefix_words
    ),
)
dropped_near_duplicates = _step(
    "dropped_near_duplicates",
    ["prompts", *STEPS[:3]],
    "Prompts that nearly repeat another one, by MinHash-LSH and exact Jaccard similarity.",
    _near_duplicates,
)
dropped_contaminated = _step(
    "dropped_contaminated",
    ["prompts", *STEPS[:4], "prompt_embeddings", "benchmarks"],
    "Prompts that repeat a benchmark: the same words, its n-grams, or a nearest neighbour.",
    _contaminated,
)
dropped_languages = _step(
    "dropped_languages",
    ["prompts", *STEPS[:5]],
    "Prompts in other languages than those that stay.",
    lambda connection, arena: (
        filters.other_languages(connection, arena.profile.prompts.language)
        if arena.profile.prompts.language
        else None
    ),
)


@dg.asset(
    group_name="prompts",
    deps=["prompts", *STEPS[:4]],
    kinds={"parquet"},
    description="One row per prompt that is no duplicate: its embedding, of length 1.",
)
@recorded
def prompt_embeddings(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    settings = arena.profile.prompts.encoder
    encoder = load_encoder(settings)
    with remaining(arena.lake, source_names(arena), "dropped_contaminated") as connection:
        texts = connection.sql(
            f"select prompt_id, {TEXT} as text from remaining order by prompt_id"
        )
        reader = texts.to_arrow_reader(_BATCH)
        arena.lake.write(
            "prompt_embeddings",
            pa.RecordBatchReader.from_batches(
                PROMPT_EMBEDDINGS.schema, (_embedded(b, encoder, settings.batch) for b in reader)
            ),
        )
    return materialized(
        arena.lake,
        "prompt_embeddings",
        encoder=settings.package or settings.hub or settings.path,
    )


def _embedded(batch: pa.RecordBatch, encoder: Any, size: int) -> pa.RecordBatch:
    vectors = encode(encoder, batch.column("text").to_pylist(), size)
    offsets = pa.array(np.arange(len(vectors) + 1) * vectors.shape[1], pa.int32())
    lists = pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel()))
    return pa.RecordBatch.from_arrays(
        [batch.column("prompt_id"), lists], schema=PROMPT_EMBEDDINGS.schema
    )


@dg.asset(
    group_name="prompts",
    deps=[*STEPS, "dropped_near_testset", "arena_testset"],
    kinds={"parquet"},
    description="One row per prompt that curation left out, with the step that did and why.",
)
@recorded
def prompt_drops(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    tables = (*STEPS, "dropped_near_testset")
    union = " union all ".join(f"select * from {table}" for table in tables)
    with arena.lake.connect(
        arena_testset=("arena_testset", "all"), **{table: (table, "all") for table in tables}
    ) as connection:
        # a test set is frozen: a later rule takes nothing out of it
        rows = connection.sql(
            f"select * from ({union}) anti join arena_testset using (prompt_id) order by prompt_id"
        )
        arena.lake.write("prompt_drops", rows.to_arrow_reader(_BATCH))
    return materialized(arena.lake, "prompt_drops", reasons=counted_reasons(arena, "prompt_drops"))


@dg.asset(
    group_name="prompts",
    deps=["prompts", "prompt_drops", "benchmarks", "arena_testset", "testset_versions"],
    kinds={"parquet"},
    description="One row per benchmark and rule: how many prompts it dropped, with examples.",
)
@recorded
def decontamination_report(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    with remaining(arena.lake, source_names(arena), STEPS[0]) as connection:
        for table in ("prompt_drops", "benchmarks"):
            connection.register(table, connection.read_parquet(str(arena.lake.present(table))))
        testset = arena.lake.present("testset_versions", current_version(arena.lake))
        connection.register("testset", connection.read_parquet(str(testset)))
        counted = connection.sql(
            f"""
            with items as (
                select benchmark as against, item_id, {TEXT} as item from benchmarks
                union all
                select 'arena_testset', prompt_id, {TEXT} from testset
            ), hits as (
                select drops.*, left({TEXT}, 300) as text,
                       row_number() over (
                           partition by drops.against, drops.reason order by drops.prompt_id
                       ) as nth
                from prompt_drops as drops join collected using (prompt_id)
                where drops.step = 'decontamination'
            ), against as (
                select distinct benchmark as against from benchmarks union select 'arena_testset'
            ), rules as (
                select against, unnest($rules) as reason from against
            )
            select rules.against, rules.reason, count(hits.prompt_id) as rows,
                   coalesce(list({{
                       prompt_id: hits.prompt_id, text: hits.text, match: hits.match,
                       item: left(items.item, 300), score: hits.score
                   }} order by nth) filter (nth <= {_EXAMPLES}), [])::json::varchar as examples
            from rules
            left join hits on hits.against = rules.against and hits.reason = rules.reason
            left join items on items.against = hits.against and items.item_id = hits.match
            group by all order by all
            """,
            params={"rules": [EXACT, OVERLAP, NEIGHBOUR]},
        ).to_arrow_table()
    arena.lake.write("decontamination_report", counted)
    return materialized(
        arena.lake,
        "decontamination_report",
        dropped=dg.MetadataValue.md(markdown_table(counted.drop(["examples"]))),
        examples=dg.MetadataValue.json(
            [row | {"examples": json.loads(row["examples"])} for row in counted.to_pylist()]
        ),
    )
