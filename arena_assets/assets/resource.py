"""The arena as a Dagster resource: opened anew for every run, from where it lies."""

import dagster as dg

from arena_assets.flywheel.arena import Arena


@dg.resource(config_schema={"profile": str, "lake": str})
def _opened(context: dg.InitResourceContext) -> Arena:
    return Arena(context.resource_config["profile"], context.resource_config["lake"])


def resource_of(arena: Arena) -> dg.ResourceDefinition:
    """Opens the same arena; a profile that was edited since is read as it is then."""
    return _opened.configured({"profile": str(arena.profile_path), "lake": str(arena.lake.root)})
