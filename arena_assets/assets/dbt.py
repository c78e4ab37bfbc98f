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
from arena_assets.checks.results import record_tests
from arena_assets.config.rounds import until
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.made_from import Making
from arena_assets.lake.code import code_version
from arena_assets.lake.durable import exclusive
from arena_assets.lake.lake import MissingPartition

_ARENA = {"arena_battles", "leaderboard"}


class ArenaTranslator(DagsterDbtTranslator):
    """Groups models with the assets beside them; their tests belong to the round."""

    def __init__(self, rounds: dg.PartitionsDefinition) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True))
        self.rounds = rounds

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        if dbt_resource_props["name"] in _ARENA:
            return "arena"
        return "reports" if dbt_resource_props["fqn"][1] == "marts" else "flywheel"

    def get_code_version(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """The version that rounds are told apart by, which comments in the SQL do not change."""
        if dbt_resource_props["resource_type"] == "model":
            return code_version(dbt_resource_props["name"])
        return super().get_code_version(dbt_resource_props)

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        if dbt_resource_props["resource_type"] == "model":
            return dg.AssetKey(dbt_resource_props["name"])
        return super().get_asset_key(dbt_resource_props)

    def get_asset_check_spec(self, asset_spec, manifest, unique_id, project):
        """dbt tests read one round at a time, so their results belong to that round."""
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        return spec._replace(partitions_def=self.rounds) if spec else None


def assets(rounds: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """What Dagster is told of the dbt models."""
    project = parsed_project()
    return [
        dbt_assets(
            manifest=project.manifest_path,
            project=project,
            partitions_def=rounds,
            dagster_dbt_translator=ArenaTranslator(rounds),
            exclude="resource_type:unit_test",
        )(arena_dbt)
    ]


def arena_dbt(context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]) -> Iterator[Any]:
    key = _round_of(context, arena)
    # DuckDB writes a table beside its place under one name, so two runs must not meet there
    with exclusive(arena.lake.root / ".locks" / key, f"the tables of {key}", context.log.info):
        yield from _build(context, arena, key)


def _build(context: dg.AssetExecutionContext, arena: Arena, key: str) -> Iterator[Any]:
    made = {asset.path[-1] for asset in context.selected_asset_keys}
    # those of other assets may be made anew while dbt works; what it read is what they were before
    making = Making(arena, made, key)
    for table in made:  # DuckDB's COPY makes no folders
        (arena.lake.root / table).mkdir(parents=True, exist_ok=True)
    variables = round_variables(arena, key)
    tested: dict[str, dict[str, bool]] = {}
    try:
        for event in build(context, variables):
            if isinstance(event, dg.Output):
                # what dagster-dbt can fetch itself takes longer than the models do
                table = context.asset_key_for_output(event.output_name).path[-1]
                making.ended(table)
                shown = table_metadata(arena.lake, table, key, held=_columns_held(context, table))
                if table == "selection_drops":
                    shown["reasons"] = _counted_reasons(arena, key)
                event = event.with_metadata({**event.metadata, **shown})
            elif isinstance(event, dg.AssetCheckResult):
                assert event.asset_key and event.check_name, "dagster-dbt names both"
                warns = event.severity is dg.AssetCheckSeverity.WARN
                table = event.asset_key.path[-1]
                tested.setdefault(table, {})[event.check_name] = event.passed or warns
            yield event
    finally:  # a test that fails ends the run, and later ones ask what it said
        for table, passed in tested.items():
            if arena.lake.exists(table, key):  # a source may be missing, or have no rounds
                record_tests(arena.lake, table, key, passed)


def round_variables(arena: Arena, key: str) -> dict[str, Any]:
    """What dbt is told of a round and of the lake that it is made in."""
    round_ = arena.round(key)
    return {
        "lake": str(arena.lake.root),
        "round": round_.key,
        "stage": round_.stage,
        "minimum_gap": round_.minimum_gap,
        "selection": round_.settings.selection.rule,
        "trains_on": list(round_.trains_on),
        "rounds_so_far": until(arena.rounds, round_.key),
        "flips": arena.profile.battles.flips,
        "quorum": getattr(arena.profile.judge, "quorum", 1.0),
    }


def _columns_held(context: dg.AssetExecutionContext, table: str) -> dict[str, str]:
    """What dbt's YAML says of the columns of a model."""
    spec = context.assets_def.specs_by_key[dg.AssetKey(table)]
    schema = spec.metadata["dagster/column_schema"]
    return {column.name: column.description or "" for column in schema.columns}


def _counted_reasons(arena: Arena, key: str) -> dg.MarkdownMetadataValue:
    """How many battles and prompts made no row, by kind of row and reason."""
    counted = arena.lake.query(
        "select kind, reason, count(*) as left_out from drops group by all order by kind, 3 desc",
        drops=("selection_drops", key),
    )
    return dg.MetadataValue.md(markdown_table(counted))


def _round_of(context: dg.AssetExecutionContext, arena: Arena) -> str:
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
