"""What the round's rule of selection chose, between the battles and the rows that dbt makes."""

import dagster as dg
import pyarrow as pa

from arena_assets.assets.declaration import declare
from arena_assets.assets.metadata import publish
from arena_assets.assets.records import recorded
from arena_assets.curation.selection import BadSelection, select
from arena_assets.flywheel.arena import Arena
from arena_assets.lake.tables import SELECTED_CANDIDATES


def assets(rounds: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """What Dagster is told of this asset."""
    return [
        declare(
            selected_candidates,
            group_name="flywheel",
            partitions_def=rounds,
            deps=["selection_candidates", "prompt_embeddings"],
            kinds={"parquet"},
        )
    ]


@recorded
def selected_candidates(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    key = context.partition_key
    settings, seed = arena.round(key).settings.selection, arena.profile.of_round(key).training_seed
    try:
        rows = select(arena.lake, key, settings, seed)
    except BadSelection as bad:
        raise dg.Failure(f"selected_candidates {key}: {bad}", allow_retries=False) from bad
    chosen = pa.Table.from_pylist(rows, schema=SELECTED_CANDIDATES.schema)
    arena.lake.write("selected_candidates", chosen, key)
    return publish(arena, "selected_candidates", key, rule=settings.rule)
