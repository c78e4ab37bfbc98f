"""The judges of a round under scrutiny."""

import dagster as dg

from arena_assets.assets.declaration import declare
from arena_assets.assets.metadata import publish
from arena_assets.assets.records import recorded
from arena_assets.flywheel.arena import Arena
from arena_assets.judging.audit import audit_judges, judge_prices


def assets(rounds: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """What Dagster is told of this asset."""
    return [
        declare(
            judge_audit,
            group_name="reports",
            partitions_def=rounds,
            deps=["judgments", "battles", "responses"],
            kinds={"parquet"},
        )
    ]


@recorded
def judge_audit(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    key = context.partition_key
    audit = audit_judges(arena.lake, key, judge_prices(arena.profile))
    arena.lake.write("judge_audit", audit, key)
    return publish(arena, "judge_audit", key)
