"""From raw collections to slices and the arena test set, and the weights that the profile names."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from arena_assets.assets.curation import (
    contaminated,
    materialized,
    source_names,
    stacked,
    written_drops,
)
from arena_assets.assets.metadata import markdown_table, table_metadata
from arena_assets.assets.partitions import sources_partitions
from arena_assets.assets.records import recorded
from arena_assets.config.places import resolve
from arena_assets.config.prompts import Source
from arena_assets.curation.collection import STEPS, count, remaining
from arena_assets.curation.difficulty import rate
from arena_assets.curation.slices import draw_slices, wanted_rows
from arena_assets.curation.sources import Notes, read_source
from arena_assets.curation.testset import build_testset, current_version, freeze
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.ingredients import testset_version
from arena_assets.flywheel.made_from import Making
from arena_assets.flywheel.moment import Moment
from arena_assets.flywheel.weights import models as known_models
from arena_assets.flywheel.weights import models_note
from arena_assets.lake.lake import Lake
from arena_assets.lake.tables import PROMPTS, TABLES
from arena_assets.models.engines import open_engine
from arena_assets.models.weights import base_weights, origin_of, served_digest
from arena_assets.training.checkpoints import verified_digest


@dg.asset(group_name="models", kinds={"safetensors"})
@recorded
def models(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    """Every model of the profile with its digest; weights are fetched or converted."""
    rows = []
    for name, model in arena.profile.models.items():
        if model.endpoint:
            # a server does not show its weights: its name for them has to do
            path, digest = "", served_digest(model.endpoint)
        else:
            path = base_weights(model, arena.models_cache, name)
            digest = verified_digest(path, models_note(arena.lake, name), thorough=True)
        origin = origin_of(model)
        context.log.info(f"{name}: {origin} -> {path}, digest {digest[:12]}")
        rows.append({"name": name, "origin": origin, "path": str(path), "digest": digest})
    arena.lake.write("models", rows)
    return materialized(arena.lake, "models")


@dg.multi_asset(
    group_name="prompts",
    partitions_def=sources_partitions,
    specs=[
        dg.AssetSpec("prompts", description=TABLES["prompts"].description, kinds={"parquet"}),
        dg.AssetSpec("quarantine", description=TABLES["quarantine"].description, kinds={"parquet"}),
    ],
)
def prompts_of_source(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> Iterator[dg.MaterializeResult]:
    """Reads one source; rows that cannot be read go to quarantine with their file and line."""
    name = context.partition_key
    source = next(source for source in arena.profile.prompts.sources if source.name == name)
    making = Making(arena, ["prompts", "quarantine"], name)
    prompts, quarantine, notes = _collected(source, context.log.info)
    tables: list[tuple[str, pa.Table, dict[str, Any]]] = [("quarantine", quarantine, {})]
    if prompts.num_rows:
        tables.append(("prompts", prompts, notes.summary()))
    for table, rows, more in tables:
        arena.lake.write(table, rows, name)
        making.ended(table)
        yield dg.MaterializeResult(
            asset_key=table, metadata=table_metadata(arena.lake, table, name, **more)
        )
    if not prompts.num_rows:  # earlier prompts stay: an empty file would take them out of slices
        raise dg.Failure(
            f"source {name}: no prompt in it; {_first_quarantined(quarantine)}",
            allow_retries=False,
        )


def _collected(source: Source, log: Callable[[str], None]) -> tuple[pa.Table, pa.Table, Notes]:
    """The prompts of a source, its quarantine, and what of it was left out."""
    notes = Notes()
    try:
        prompts, quarantine = read_source(source, source_place(source), notes)
    except (ValueError, FileNotFoundError) as error:
        raise dg.Failure(f"source {source.name}: {error}", allow_retries=False) from None
    log(f"{source.name}: {prompts.num_rows} prompts, {quarantine.num_rows} rows quarantined")
    for what, said in notes.summary().items():
        log(f"{source.name}: {what.replace('_', ' ')}: {said}")
    return prompts, quarantine, notes


def _first_quarantined(quarantine: pa.Table) -> str:
    if not quarantine.num_rows:
        return "it has no rows"
    (first,) = quarantine.slice(0, 1).to_pylist()
    return f"of {quarantine.num_rows} quarantined rows the first: " + (
        f"{first['path']}, line {first['line']}: {first['reason']}"
    )


@dg.asset(group_name="prompts", kinds={"parquet"}, description=TABLES["benchmarks"].description)
@recorded
def benchmarks(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    rows = []
    for source in arena.profile.prompts.decontamination.benchmarks:
        items, quarantine, _ = _collected(source, context.log.info)
        if quarantine.num_rows or not items.num_rows:
            raise dg.Failure(
                f"benchmark {source.name}: {_first_quarantined(quarantine)}; "
                "a benchmark that is read in part protects nothing",
                allow_retries=False,
            )
        names = {"source": "benchmark", "prompt_id": "item_id"}
        rows.append(
            items.select([*names, "messages"]).rename_columns(names | {"messages": "messages"})
        )
    schema = TABLES["benchmarks"].schema
    arena.lake.write("benchmarks", pa.concat_tables([schema.empty_table(), *rows]))
    return materialized(arena.lake, "benchmarks")


def source_place(source: Source) -> Path | str | None:
    """Where a source lies: its URI, its resolved path, or None for the hub."""
    if source.path is None or source.remote:
        return source.path
    return resolve(source.path)


@dg.asset(
    group_name="prompts",
    deps=["prompts", *STEPS, "prompt_embeddings", "models"],
    kinds={"parquet"},
    description=TABLES["testset_versions"].description,
)
def testset_versions(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    lake, version = arena.lake, testset_version(Moment(arena))
    if version:
        context.log.info(f"frozen: {version}, which the profile asks for, is there")
    else:
        making = Making(arena, ["testset_versions"])
        version = freeze(lake, _drawn_testset(arena, context.log.info))
        making.ended("testset_versions", version)
        context.log.info(f"new version {version}")
    versions = ", ".join(lake.partitions("testset_versions"))
    return dg.MaterializeResult(
        metadata=table_metadata(
            lake, "testset_versions", version, version=version, versions=versions
        ),
        data_version=dg.DataVersion(lake.digest("testset_versions", version)),
    )


@dg.asset(
    group_name="prompts",
    deps=["testset_versions"],
    kinds={"parquet"},
    description=TABLES["arena_testset"].description,
)
@recorded
def arena_testset(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    lake, version = arena.lake, testset_version(Moment(arena))
    if version is None:
        raise dg.Failure(
            "no version of the test set is as the profile asks: materialize testset_versions",
            allow_retries=False,
        )
    rows = lake.read("testset_versions", version, TABLES["arena_testset"].schema.names)
    lake.write("arena_testset", rows)
    return materialized(lake, "arena_testset", **_testset_metadata(lake))


def _drawn_testset(arena: Arena, log: Callable[[str], None]) -> pa.Table:
    settings, seed = arena.profile.prompts.testset, arena.profile.seed
    with remaining(arena.lake, source_names(arena)) as connection:
        connection.register(
            "embedded", connection.read_parquet(str(arena.lake.present("prompt_embeddings")))
        )
        candidates = connection.sql(
            f"""
            select {", ".join(f"remaining.{name}" for name in PROMPTS.schema.names)}, embedding
            from remaining join embedded using (prompt_id) order by remaining.prompt_id
            """
        ).to_arrow_table()

    def rate_difficulty(prompts: pa.Table) -> dict[str, float]:
        weights = known_models(arena)[settings.rater.model]
        engine = arena.profile.generation.engine
        return rate(
            prompts,
            settings.rater,
            weights.identity,
            lambda: open_engine(weights, seed, engine),
            arena.lake.store("difficulty"),
            arena.profile.generation.batch,
            log,
        )

    return build_testset(
        candidates.select(PROMPTS.schema.names),
        stacked(candidates),
        settings,
        seed,
        rate_difficulty if settings.rater else None,
    )


def _testset_metadata(lake: Lake) -> dict[str, Any]:
    counted = lake.query(
        """
        select part, count(*) as prompts, count(distinct cluster) as clusters,
               count(distinct category) as categories, avg(difficulty) as difficulty,
               avg((turns > 1)::int) as multi_turn_share, any_value(version) as version
        from (select * from testset union all by name select * replace ('mix' as part) from testset)
        group by part order by part
        """,
        testset=("arena_testset", "all"),
    )
    *_, mix = sorted(counted.to_pylist(), key=lambda row: row["part"] == "mix")
    return {
        "parts": dg.MetadataValue.md(markdown_table(counted)),
        "version": mix["version"] or "-",
        "multi_turn_share": round(mix["multi_turn_share"] or 0.0, 4),
    }


@dg.asset(
    group_name="prompts",
    deps=["prompts", *STEPS, "prompt_embeddings", "testset_versions", "arena_testset"],
    kinds={"parquet"},
    description="Prompts that repeat one of the arena test set.",
)
@recorded
def dropped_near_testset(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    lake = arena.lake
    items = lake.query(
        "select 'arena_testset' as against, prompt_id as item_id, messages from testset",
        testset=("testset_versions", current_version(lake)),
    )
    with remaining(lake, source_names(arena)) as connection:
        held_out = pa.table({"prompt_id": items["item_id"]})
        connection.register("held_out", held_out)
        connection.execute(
            """
            create or replace temp view outside as select * from remaining where prompt_id not in (
                select prompt_id from held_out)
            """
        )
        before = count(connection, "outside")
        dropped = contaminated(connection, arena, items, "outside")
    return written_drops(context, arena, "dropped_near_testset", dropped, before)


@dg.asset(
    group_name="prompts",
    deps=["prompts", *STEPS, "dropped_near_testset", "testset_versions", "arena_testset"],
    kinds={"parquet"},
    description="The prompts that curation kept, of all sources, and those of the test set.",
)
@recorded
def prompts_curated(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    lake = arena.lake
    columns = ", ".join(PROMPTS.schema.names)
    with remaining(lake, source_names(arena)) as connection:
        for name, table, partition in (
            ("testset", "testset_versions", current_version(lake)),
            ("near", "dropped_near_testset", "all"),
        ):
            file = str(lake.present(table, partition))
            connection.register(name, connection.read_parquet(file))
        connection.execute(
            """
            create temp view free as select * from remaining where prompt_id not in (
                select prompt_id from testset union all select prompt_id from near)
            """
        )
        free = connection.sql("select prompt_id, source from free").to_arrow_table()
        # too few to fill the slices: refused before the prompts that rounds were turned on are gone
        wanted_rows(free, arena.profile.prompts.slices)
        # a test set is complete in itself: its prompts stay though their source has changed
        kept = connection.sql(
            f"""
            select {columns} from free union all select {columns} from testset order by prompt_id
            """
        )
        lake.write("prompts_curated", kept.to_arrow_reader(10_000))
    return materialized(lake, "prompts_curated")


@dg.asset(
    group_name="prompts",
    deps=["prompts_curated", "arena_testset"],
    kinds={"parquet"},
    description=TABLES["slices"].description,
)
@recorded
def slices(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    lake = arena.lake
    free = lake.query(
        "select prompt_id, source from prompts anti join testset using (prompt_id)",
        prompts=("prompts_curated", "all"),
        testset=("arena_testset", "all"),
    )
    found = draw_slices(free, arena.profile.prompts.slices, arena.profile.seed)
    lake.write("slices", found)
    counted = lake.query(
        "select slice, count(*) as prompts from s group by slice order by slice", s=found
    )
    unused = free.num_rows - found.num_rows
    context.log.info(f"{found.num_rows} prompts in slices, {unused} in none")
    return materialized(
        lake, "slices", slices=dg.MetadataValue.md(markdown_table(counted)), in_no_slice=unused
    )
