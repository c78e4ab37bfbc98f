"""The dbt models as assets: battles, selections, leaderboards, judge quality."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
from dagster_dbt import (
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    DbtCliResource,
    DbtProject,
    dbt_assets,
)

from arena_assets.assets.metadata import table_metadata
from arena_assets.config import PROJECT
from arena_assets.durable import exclusive
from arena_assets.lineage import inputs_fingerprint
from arena_assets.partitions import rounds_partitions
from arena_assets.resources import ArenaResource
from arena_assets.rounds import until

# dagster-dbt looks for `dbt` on the path; it stands beside this Python, activated or not
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

dbt_project = DbtProject(project_dir=PROJECT / "dbt_project", profiles_dir=PROJECT / "dbt_project")
if not dbt_project.manifest_path.exists():
    # a fresh clone: parse once (seconds, no network); afterwards `dagster dev` and `make` keep it
    # current
    dbt_project.preparer.prepare(dbt_project)
dbt_project.prepare_if_dev()

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
def arena_dbt(
    context: dg.AssetExecutionContext, dbt: DbtCliResource, arena: ArenaResource
) -> Iterator[Any]:
    key = context.partition_key
    # DuckDB writes a table beside its place under one name, so two runs must not meet there
    with exclusive(arena.lake.root / ".locks" / key, f"the tables of {key}", context.log.info):
        yield from _build(context, dbt, arena)


def _build(
    context: dg.AssetExecutionContext, dbt: DbtCliResource, arena: ArenaResource
) -> Iterator[Any]:
    round_ = arena.round(context.partition_key)
    fingerprint = inputs_fingerprint(arena, round_.key)
    for key in context.selected_asset_keys:  # DuckDB's COPY makes no folders
        (arena.lake.root / key.path[-1]).mkdir(parents=True, exist_ok=True)
    os.environ["ARENA_LAKE"] = str(arena.lake.root)
    with TemporaryDirectory() as scratch:  # a database file of its own: runs never wait for a lock
        variables = {
            "round": round_.key,
            "stage": round_.stage,
            "minimum_gap": round_.minimum_gap,
            "trains_on": list(round_.trains_on),
            "rounds_so_far": until(arena.rounds, round_.key),
            "flips": arena.arena.battles.flips,
            "quorum": getattr(arena.arena.judge, "quorum", 1.0),
            "scratch": scratch,
        }
        arguments = ["build", "--vars", json.dumps(variables)]
        # unit tests are for `make test`; selecting a part of the models forgets the exclusion above
        arguments += ["--exclude", "resource_type:unit_test"]
        run = dbt.cli(arguments, context=context, target_path=Path(scratch) / "target")
        for event in run.stream():
            if isinstance(event, dg.Output):
                # what dagster-dbt can fetch itself takes longer than the models do
                table = context.asset_key_for_output(event.output_name).path[-1]
                arena.record(table, round_.key, fingerprint)
                shown = table_metadata(arena.lake, table, round_.key)
                event = event.with_metadata({**event.metadata, **shown})
            yield event
