"""The partitions of the profile in use: one a round, and one a source of prompts."""

from __future__ import annotations

import dagster as dg

from arena_assets.config import load_arena

ARENA = load_arena()

# Static and sorting in time order: Dagster's backfills run partitions sorted by key.
rounds_partitions = dg.StaticPartitionsDefinition(sorted(ARENA.rounds))
sources_partitions = dg.StaticPartitionsDefinition([s.name for s in ARENA.prompts.sources])
