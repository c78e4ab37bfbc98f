"""The arena as a Dagster resource: opened anew for every run, from where it lies."""

import dagster as dg

from arena_assets.flywheel.arena import Arena


@dg.resource(config_schema={"profile": str, "lake": str, "training_seed": dg.Noneable(int)})
def _opened(context: dg.InitResourceContext) -> Arena:
    return Arena(**context.resource_config)


def resource_of(arena: Arena) -> dg.ResourceDefinition:
    """Opens the same arena; a profile that was edited since is read as it is then."""
    seeded = arena.shares_with  # it lies beside the lake that it is opened from
    return _opened.configured(
        {
            "profile": str(arena.profile_path),
            "lake": str((seeded or arena.lake).root),
            "training_seed": arena.profile.training_seed if seeded else None,
        }
    )
