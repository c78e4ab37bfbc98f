"""The partitions of the profile in use: one a round, and one a source of prompts."""

from __future__ import annotations

import dagster as dg

from arena_assets.config.profile import load_profile

PROFILE = load_profile()

# Static and sorting in time order: Dagster's backfills run partitions sorted by key.
rounds_partitions = dg.StaticPartitionsDefinition(sorted(PROFILE.rounds))
sources_partitions = dg.StaticPartitionsDefinition([s.name for s in PROFILE.prompts.sources])
