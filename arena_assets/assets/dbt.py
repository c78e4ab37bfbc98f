"""The dbt models as assets: battles, selections, leaderboards, judge quality."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster_dbt import (
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    dbt_assets,
)

from arena_assets.assets.dbt_build import build
from arena_assets.assets.dbt_project import parsed_project
from arena_assets.assets.metadata import markdown_table, table_metadata
from arena_assets.checks.expectations import checked_partition
from arena_assets.durable import exclusive
from arena_assets.lake import MissingPartition
from arena_assets.lineage import PROMOTED_FROM, inputs_fingerprint, settings_fingerprint
from arena_assets.partitions import rounds_partitions
from arena_assets.resources import ArenaResource
from arena_assets.rounds import until

dbt_project = parsed_project()

_ARENA = {"arena_battles", "leaderboard"}


class ArenaTranslator(DagsterDbtTranslator):
    """Groups models with the assets beside them; their tests belong to the round."""

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        if dbt_resource_props["name"] in _ARENA:
            return "arena"
        return "reports" if dbt_resource_props["fqn"][1] == "marts" else "flywheel"

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        if dbt_resource_props["resource_type"] == "model":
            return dg.AssetKey(dbt_resource_props["name"])
        return super().get_asset_key(dbt_resource_props)

    def get_asset_check_spec(self, asset_spec, manifest, unique_id, project):
        """dbt tests read one round at a time, so their results belong to that round."""
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        return spec._replace(partitions_def=rounds_partitions) if spec else None


@dbt_assets(
    manifest=dbt_project.manifest_path,
    project=dbt_project,
    partitions_def=rounds_partitions,
    dagster_dbt_translator=ArenaTranslator(
        settings=DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True)
    ),
    exclude="resource_type:unit_test",
)
def arena_dbt(context: dg.AssetExecutionContext, arena: ArenaResource) -> Iterator[Any]:
    key = _round_of(context, arena)
    # DuckDB writes a table beside its place under one name, so two runs must not meet there
    with exclusive(arena.lake.root / ".locks" / key, f"the tables of {key}", context.log.info):
        yield from _build(context, arena, key)


def _build(context: dg.AssetExecutionContext, arena: ArenaResource, key: str) -> Iterator[Any]:
    round_ = arena.round(key)
    settings = settings_fingerprint(arena, key)
    made = {asset.path[-1] for asset in context.selected_asset_keys}
    # those of other assets may be made anew while dbt works; what it read is what they were before
    read = {above for table in made for above in PROMOTED_FROM.get(table, ())} - made
    found = {table: arena.digest(table, key) for table in read}
    for table in made:  # DuckDB's COPY makes no folders
        (arena.lake.root / table).mkdir(parents=True, exist_ok=True)
    variables = {
        "lake": str(arena.lake.root),
        "round": round_.key,
        "stage": round_.stage,
        "minimum_gap": round_.minimum_gap,
        "trains_on": list(round_.trains_on),
        "rounds_so_far": until(arena.rounds, round_.key),
        "flips": arena.arena.battles.flips,
        "quorum": getattr(arena.arena.judge, "quorum", 1.0),
    }
    for event in build(context, variables):
        if isinstance(event, dg.Output):
            # what dagster-dbt can fetch itself takes longer than the models do
            table = context.asset_key_for_output(event.output_name).path[-1]
            inputs = inputs_fingerprint(arena, table, key, settings, found)
            arena.record(table, key, inputs)
            shown = table_metadata(arena.lake, table, key)
            if table == "selection_drops":
                shown["reasons"] = _counted_reasons(arena, key)
            event = event.with_metadata({**event.metadata, **shown})
        yield event


def _counted_reasons(arena: ArenaResource, key: str) -> dg.MarkdownMetadataValue:
    """How many battles and prompts made no row, by kind of row and reason."""
    counted = arena.lake.query(
        "select kind, reason, count(*) as left_out from drops group by all order by kind, 3 desc",
        drops=("selection_drops", key),
    )
    return dg.MetadataValue.md(markdown_table(counted))


def _round_of(context: dg.AssetExecutionContext, arena: ArenaResource) -> str:
    """The round of a run; one that only checks may come without, and makes no table."""
    if context.selected_asset_keys:
        return context.partition_key
    tables = sorted({key.asset_key.path[-1] for key in context.selected_asset_check_keys})
    partition = checked_partition(context, arena.lake, tables[0])
    try:
        for table in tables:
            arena.lake.present(table, partition)
    except MissingPartition as missing:
        raise dg.Failure(str(missing), allow_retries=False) from missing
    return partition
