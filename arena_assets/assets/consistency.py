"""How far a round agrees with another arena; there only where the profile names a reference."""

import dagster as dg

from arena_assets.assets.declaration import declare
from arena_assets.assets.metadata import publish
from arena_assets.assets.records import recorded
from arena_assets.config.places import resolve
from arena_assets.curation.split import REPORTS
from arena_assets.flywheel.arena import Arena
from arena_assets.ratings.consistency import consistency as compare
from arena_assets.ratings.consistency import read_names, read_reference


def assets(rounds: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """What Dagster is told of this asset."""
    return [
        declare(
            consistency,
            group_name="reports",
            partitions_def=rounds,
            deps=["ratings"],
            kinds={"parquet"},
        )
    ]


@recorded
def consistency(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    key, reference = context.partition_key, arena.profile.ratings.reference
    assert reference is not None  # else there is no such asset
    found = compare(
        [row for row in arena.lake.read("ratings", key).to_pylist() if row["purpose"] in REPORTS],
        read_reference(resolve(reference.path), reference.where or None),
        read_names(resolve(reference.names)) if reference.names else None,
    )
    row = {"round": key, "models": len(found.models), "spearman": found.spearman}
    row |= {"agreement": found.agreement, "differentiation": found.differentiation}
    arena.lake.write("consistency", [row | {"mean": found.mean}], key)
    shown = {"spearman": found.spearman, "compared": ", ".join(found.models)}
    return publish(arena, "consistency", key, **shown)
