"""The judges of a round under scrutiny."""

import dagster as dg

from arena_assets.assets.metadata import table_metadata
from arena_assets.assets.partitions import rounds_partitions
from arena_assets.assets.records import recorded
from arena_assets.flywheel.arena import Arena
from arena_assets.judging.audit import audit_judges, judge_prices
from arena_assets.lake.tables import TABLES


@dg.asset(
    group_name="reports",
    partitions_def=rounds_partitions,
    deps=["judgments", "battles", "responses"],
    kinds={"parquet"},
    description=TABLES["judge_audit"].description,
)
@recorded
def judge_audit(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    key = context.partition_key
    audit = audit_judges(arena.lake, key, judge_prices(arena.profile))
    arena.lake.write("judge_audit", audit, key)
    return dg.MaterializeResult(
        metadata=table_metadata(arena.lake, "judge_audit", key),
        data_version=dg.DataVersion(arena.lake.digest("judge_audit", key)),
    )
