"""The steps of curation, one asset each, in their order; every one writes only what it drops."""

import json
from collections.abc import Callable
from functools import partial

import dagster as dg
import pyarrow as pa

from arena_assets.assets.declaration import declare
from arena_assets.assets.metadata import markdown_table, publish
from arena_assets.assets.records import recorded
from arena_assets.curation.collection import STEPS, all_drops, count, remaining
from arena_assets.curation.embeddings import BATCH, embedded
from arena_assets.curation.report import counted_reasons, decontamination
from arena_assets.curation.steps import DROPS, nothing_left
from arena_assets.curation.testset import current_version
from arena_assets.flywheel.arena import Arena
from arena_assets.lake.tables import PROMPT_EMBEDDINGS


def assets() -> list[dg.AssetsDefinition]:
    """What Dagster is told of these assets."""
    table = partial(declare, group_name="prompts", kinds={"parquet"})
    descriptions = {
        "dropped_unsafe": (
            "Prompts that are unsafe or toxic: a phrase of the lexicon, or the classifier's score."
        ),
        "dropped_short": "Prompts with fewer words than minimum_words.",
        "dropped_prefixes": "Prompts that begin with the same prefix_words words as another one.",
        "dropped_near_duplicates": (
            "Prompts that nearly repeat another one, by MinHash-LSH and exact Jaccard similarity."
        ),
        "dropped_contaminated": (
            "Prompts that repeat a benchmark: the same words, its n-grams, or a nearest neighbour."
        ),
        "dropped_languages": "Prompts in other languages than those that stay.",
    }
    more = {"dropped_contaminated": ["prompt_embeddings", "benchmarks"]}
    return [
        *(
            table(
                _step(name),
                name,
                descriptions[name],
                deps=["prompts", *STEPS[:place], *more.get(name, [])],
            )
            for place, name in enumerate(STEPS)
        ),
        table(prompt_embeddings, deps=["prompts", *STEPS[:4]]),
        table(prompt_drops, deps=[*STEPS, "dropped_near_testset", "arena_testset"]),
        table(
            decontamination_report,
            deps=["prompts", "prompt_drops", "benchmarks", "arena_testset", "testset_versions"],
        ),
    ]


def source_names(arena: Arena) -> list[str]:
    return [source.name for source in arena.profile.prompts.sources]


def _step(table: str) -> Callable[..., dg.MaterializeResult]:
    """The body of the asset that writes the drops of one step; one that is off drops nothing."""

    @partial(recorded, table=table)
    def step(
        context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
    ) -> dg.MaterializeResult:
        with remaining(arena.lake, source_names(arena), table) as connection:
            before = count(connection, "remaining")
            dropped = DROPS[table](connection, arena.profile.prompts, arena.lake)
        written = publish_drops(context, arena, table, dropped, before)
        if before == dropped.num_rows:
            raise dg.Failure(nothing_left(source_names(arena), dropped), allow_retries=False)
        return written

    return step


def publish_drops(
    context: dg.AssetExecutionContext,
    arena: Arena,
    table: str,
    dropped: pa.Table,
    before: int,
) -> dg.MaterializeResult:
    """Write the drops of a step; its metadata counts them by reason."""
    arena.lake.write(table, dropped.sort_by("prompt_id"))
    context.log.info(f"{before} prompts: {dropped.num_rows} dropped")
    return publish(arena, table, prompts_before=before, reasons=_reasons(arena, table))


def _reasons(arena: Arena, table: str) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(markdown_table(counted_reasons(arena.lake, table)))


@recorded
def prompt_embeddings(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    settings = arena.profile.prompts.encoder
    with remaining(arena.lake, source_names(arena), "dropped_contaminated") as connection:
        batches = embedded(connection, settings)
        rows = pa.RecordBatchReader.from_batches(PROMPT_EMBEDDINGS.schema, batches)
        arena.lake.write("prompt_embeddings", rows)
    encoder = settings.package or settings.hub or settings.path
    return publish(arena, "prompt_embeddings", encoder=encoder)


@recorded
def prompt_drops(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    with arena.lake.connect() as connection:
        rows = all_drops(connection, arena.lake)
        arena.lake.write("prompt_drops", rows.to_arrow_reader(BATCH))
    return publish(arena, "prompt_drops", reasons=_reasons(arena, "prompt_drops"))


@recorded
def decontamination_report(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    counted = decontamination(arena.lake, source_names(arena), current_version(arena.lake))
    arena.lake.write("decontamination_report", counted)
    examples = [row | {"examples": json.loads(row["examples"])} for row in counted.to_pylist()]
    return publish(
        arena,
        "decontamination_report",
        dropped=dg.MetadataValue.md(markdown_table(counted.drop(["examples"]))),
        examples=dg.MetadataValue.json(examples),
    )
