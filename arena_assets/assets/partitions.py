"""The partitions of an arena: one a round, and one a source of prompts."""

import dagster as dg

from arena_assets.config.profile import Profile


def rounds_of(profile: Profile) -> dg.StaticPartitionsDefinition:
    """Static and sorting in time order: Dagster's backfills run partitions sorted by key."""
    return dg.StaticPartitionsDefinition(sorted(profile.rounds))


def sources_of(profile: Profile) -> dg.StaticPartitionsDefinition:
    return dg.StaticPartitionsDefinition([source.name for source in profile.prompts.sources])
