"""From raw collections to slices and the arena test set, and the weights that the profile names."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import dagster as dg
import pyarrow as pa

from arena_assets.assets.curation import publish_drops, source_names
from arena_assets.assets.declaration import declare, declare_tables
from arena_assets.assets.metadata import markdown_table, publish
from arena_assets.assets.records import recorded, refuse_unmigrated
from arena_assets.config.prompts import DifficultyRater
from arena_assets.curation.collection import STEPS, curated, remaining
from arena_assets.curation.difficulty import rate
from arena_assets.curation.embeddings import BATCH
from arena_assets.curation.slices import draw_slices, unused_prompts, wanted_rows
from arena_assets.curation.sources import collect, first_quarantined, read_benchmarks
from arena_assets.curation.split import FEWEST, WHOLE
from arena_assets.curation.steps import near_testset
from arena_assets.curation.testset import (
    build_testset,
    candidates,
    counted_parts,
    current_testset,
    current_version,
    freeze,
)
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.ingredients import testset_version
from arena_assets.flywheel.made_from import Making
from arena_assets.flywheel.moment import Moment
from arena_assets.flywheel.taking_in import take_in_models
from arena_assets.flywheel.weights import BrokenChain
from arena_assets.flywheel.weights import models as known_models
from arena_assets.lake.lake import Lake
from arena_assets.models.engine import BackendDown
from arena_assets.training.checkpoints import CorruptCheckpoint


def assets(sources: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """What Dagster is told of these assets."""
    table = partial(declare, group_name="prompts", kinds={"parquet"})
    return [
        declare(models, group_name="models", kinds={"safetensors"}),
        declare_tables(
            prompts_of_source,
            ["prompts", "quarantine"],
            group_name="prompts",
            partitions_def=sources,
        ),
        table(benchmarks),
        table(testset_versions, deps=["prompts", *STEPS, "prompt_embeddings", "models"]),
        table(arena_testset, deps=["testset_versions"]),
        table(
            dropped_near_testset,
            description="Prompts that repeat one of the arena test set.",
            deps=["prompts", *STEPS, "prompt_embeddings", "testset_versions", "arena_testset"],
        ),
        table(
            prompts_curated,
            description="The prompts of all sources that curation kept, and those of the test set.",
            deps=["prompts", *STEPS, "dropped_near_testset", "testset_versions", "arena_testset"],
        ),
        table(slices, deps=["prompts_curated", "arena_testset"]),
    ]


@recorded
def models(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    """Every model of the profile with its digest; weights are fetched or converted."""
    arena.lake.write("models", take_in_models(arena, context.log.info))
    return publish(arena, "models")


def prompts_of_source(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> Iterator[dg.MaterializeResult]:
    """Reads one source; rows that cannot be read go to quarantine with their file and line."""
    name = context.partition_key
    source = next(source for source in arena.profile.prompts.sources if source.name == name)
    making = Making(arena, ["prompts", "quarantine"], name)
    try:
        prompts, quarantine, notes = collect(source, context.log.info)
    except (ValueError, FileNotFoundError) as error:
        raise dg.Failure(f"source {name}: {error}", allow_retries=False) from error
    tables: list[tuple[str, pa.Table, dict[str, Any]]] = [("quarantine", quarantine, {})]
    if prompts.num_rows:
        tables.append(("prompts", prompts, notes.summary()))
    for table, rows, more in tables:
        arena.lake.write(table, rows, name)
        making.ended(table)
        yield publish(arena, table, name, **more)
    if not prompts.num_rows:  # earlier prompts stay: an empty file would take them out of slices
        raise dg.Failure(
            f"source {name}: no prompt in it; {first_quarantined(quarantine)}",
            allow_retries=False,
        )


@recorded
def benchmarks(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    try:
        items = read_benchmarks(arena.profile.prompts.decontamination.benchmarks, context.log.info)
    except ValueError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    arena.lake.write("benchmarks", items)
    return publish(arena, "benchmarks")


def testset_versions(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    refuse_unmigrated(arena)
    lake, version = arena.lake, testset_version(Moment(arena))
    if version:
        context.log.info(f"frozen: {version}, which the profile asks for, is there")
    else:
        making = Making(arena, ["testset_versions"])
        version = freeze(lake, _drawn_testset(arena, context.log.info))
        making.ended("testset_versions", version)
        context.log.info(f"new version {version}")
    versions = ", ".join(lake.partitions("testset_versions"))
    return publish(arena, "testset_versions", version, version=version, versions=versions)


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
    settings = arena.profile.prompts.testset
    rows = current_testset(lake, version, settings, arena.profile.seed)
    lake.write("arena_testset", rows)
    if settings.report_share and WHOLE in rows["purpose"].to_pylist():
        context.log.warning(
            f"the test set of {rows.num_rows} prompts is too small for a part that selects and one "
            f"that reports, each of {FEWEST} or more prompts in families of their own: the gain is "
            "reported on the prompts by which was promoted. Raise clusters or hard of "
            "prompts.testset"
        )
    return publish(arena, "arena_testset", **_testset_metadata(lake))


def _drawn_testset(arena: Arena, log: Callable[[str], None]) -> pa.Table:
    settings = arena.profile.prompts.testset
    rater = _rater(arena, settings.rater, log) if settings.rater else None
    found, vectors = candidates(arena.lake, source_names(arena))
    return build_testset(found, vectors, settings, arena.profile.seed, rater)


def _rater(
    arena: Arena, settings: DifficultyRater, log: Callable[[str], None]
) -> Callable[[pa.Table], dict[str, float]]:
    """Asks the profile's rater for the difficulty of prompts."""

    def rate_difficulty(prompts: pa.Table) -> dict[str, float]:
        try:
            model = known_models(arena)[settings.model]
            return rate(
                prompts,
                settings,
                model.identity,
                lambda: arena.open_engine(model),
                arena.lake.store("difficulty"),
                arena.profile.generation.batch,
                log,
            )
        except (BackendDown, BrokenChain, CorruptCheckpoint) as down:
            raise dg.Failure(f"testset_versions: {down}", allow_retries=False) from down

    return rate_difficulty


def _testset_metadata(lake: Lake) -> dict[str, Any]:
    counted = counted_parts(lake)
    *_, mix = sorted(counted.to_pylist(), key=lambda row: row["part"] == "mix")
    return {
        "parts": dg.MetadataValue.md(markdown_table(counted)),
        "version": mix["version"] or "-",
        "multi_turn_share": round(mix["multi_turn_share"] or 0.0, 4),
    }


@recorded
def dropped_near_testset(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    with remaining(arena.lake, source_names(arena)) as connection:
        before, dropped = near_testset(
            connection, arena.profile.prompts, arena.lake, current_version(arena.lake)
        )
    return publish_drops(context, arena, "dropped_near_testset", dropped, before)


@recorded
def prompts_curated(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    with remaining(arena.lake, source_names(arena)) as connection:
        kept, free = curated(connection, arena.lake, current_version(arena.lake))
        # too few to fill the slices: refused before the prompts that rounds were turned on are gone
        wanted_rows(free.to_arrow_table(), arena.profile.prompts.slices)
        arena.lake.write("prompts_curated", kept.to_arrow_reader(BATCH))
    return publish(arena, "prompts_curated")


@recorded
def slices(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    free = unused_prompts(arena.lake)
    found = draw_slices(free, arena.profile.prompts.slices, arena.profile.seed)
    arena.lake.write("slices", found)
    counted = found.group_by("slice", use_threads=False).aggregate([([], "count_all")])
    unused = free.num_rows - found.num_rows
    context.log.info(f"{found.num_rows} prompts in slices, {unused} in none")
    shown = dg.MetadataValue.md(markdown_table(counted.rename_columns(["slice", "prompts"])))
    return publish(arena, "slices", slices=shown, in_no_slice=unused)
