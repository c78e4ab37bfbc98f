"""The arena as a Dagster resource: the profile, its lake, its rounds and its checkpoints."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import dagster as dg

from arena_assets.checkpoints import CheckpointStore
from arena_assets.config import Arena, load_arena
from arena_assets.lake import Lake
from arena_assets.places import output_folder, profile_path
from arena_assets.rounds import Round, plan_rounds, select_round


class ArenaResource(dg.ConfigurableResource):
    """One arena: `profile` is the path of its YAML, `lake` the folder of its tables."""

    profile: str
    lake_root: str

    @cached_property
    def arena(self) -> Arena:
        return load_arena(self.profile)

    @cached_property
    def lake(self) -> Lake:
        return Lake(Path(self.lake_root))

    @cached_property
    def rounds(self) -> dict[str, Round]:
        return plan_rounds(self.arena.rounds)

    @cached_property
    def checkpoints(self) -> CheckpointStore:
        return CheckpointStore(self.lake.root / "checkpoints")

    @property
    def models_cache(self) -> Path:
        """Where converted weights are kept, for all arenas of a workspace."""
        return output_folder("ARENA_MODELS", "data/models")

    def round(self, key: str) -> Round:
        return select_round(self.rounds, key)

    def record(self, table: str, partition: str, fingerprint: str) -> None:
        """Note what a partition (or a checkpoint) was made from; see `made_from`."""
        self.lake.record(_folder(table), partition, fingerprint, self.digest(table, partition))

    def made_from(self, table: str, partition: str) -> str | None:
        """What a partition was made from; None where it is missing or was changed since."""
        digest = self.digest(table, partition)
        return self.lake.made_from(_folder(table), partition, digest) if digest else None

    def digest(self, table: str, partition: str) -> str | None:
        """The digest of a partition or of a checkpoint; None where it is missing."""
        if table == "checkpoint":
            manifest = self.checkpoints.manifest(partition)
            return manifest.digest if manifest else None
        return self.lake.digest(table, partition) if self.lake.exists(table, partition) else None


def _folder(table: str) -> str:
    return "checkpoints" if table == "checkpoint" else table


def lake_root(arena: Arena) -> Path:
    """The lake of a profile: ARENA_LAKE, else data/lake/<its name> in the workspace."""
    return output_folder("ARENA_LAKE", f"data/lake/{arena.name}")


def arena_resource() -> ArenaResource:
    """The arena that ARENA_PROFILE and ARENA_LAKE name."""
    arena = load_arena()
    return ArenaResource(profile=str(profile_path()), lake_root=str(lake_root(arena)))
