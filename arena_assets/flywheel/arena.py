"""The arena: a profile with its lake, its rounds and its checkpoints; built once, then given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from arena_assets.config.places import output_folder, profile_path, resolve
from arena_assets.config.profile import Profile, load_profile
from arena_assets.config.rounds import Round, rounds_in_order, select_round
from arena_assets.flywheel.seeds import chosen_seed, lake_of_seed, refuse_fixed_seeds
from arena_assets.lake.lake import Lake
from arena_assets.models.engine import Engine
from arena_assets.models.model import Model
from arena_assets.models.opening import open_engine
from arena_assets.training.checkpoints import CheckpointStore, CorruptCheckpoint

CHECKPOINT: Final = "checkpoint"  # beside the tables: a folder with a manifest


class Arena:
    """One arena; by default in its profile's own lake.

    With another `training_seed` than the profile's it lies in a lake beside that one (see `seeds`).
    Raises ProfileError where the profile cannot be used, BadSeed where it fixes seeds itself.
    """

    def __init__(
        self,
        profile: str | Path,
        lake: str | Path | None = None,
        training_seed: int | None = None,
    ):
        self.profile_path = resolve(str(profile))
        self.profile: Profile = load_profile(profile)
        root = Path(lake or lake_root(self.profile))
        self.shares_with: Lake | None = None  # the lake whose prompts and stores it has
        if training_seed is not None and training_seed != self.profile.training_seed:
            refuse_fixed_seeds(self.profile.rounds)
            training = self.profile.training.model_copy(update={"seed": training_seed})
            self.profile = self.profile.model_copy(update={"training": training})
            self.shares_with, root = Lake(root), lake_of_seed(root, training_seed)
        self.lake = Lake(root)
        self.rounds: dict[str, Round] = rounds_in_order(self.profile.rounds)
        self.checkpoints = CheckpointStore(self.lake.root / "checkpoints")

    @property
    def models_cache(self) -> Path:
        """Where converted weights are kept, for all arenas of a workspace."""
        return output_folder("ARENA_MODELS", "data/models")

    def round(self, key: str) -> Round:
        return select_round(self.rounds, key)

    def open_engine(self, model: Model) -> Engine:
        """The engine of a model with the profile's settings, opened unless it is open."""
        return open_engine(model, self.profile.seed, self.profile.generation.engine)

    def record(
        self, table: str, partition: str, made_from: str, made_of: Mapping[str, Any] | None = None
    ) -> None:
        """Note what a partition (or a checkpoint) was made from; see `made_from`."""
        digest = self.digest(table, partition) if table == CHECKPOINT else None
        self.lake.record(_folder(table), partition, made_from, digest, made_of)

    def made_from(self, table: str, partition: str) -> str | None:
        """What a partition was made from; None where it is missing or was changed since."""
        digest = self.digest(table, partition)
        return self.lake.made_from(_folder(table), partition, digest) if digest else None

    def made_of(self, table: str, partition: str) -> dict[str, Any]:
        """What that was in words: settings, inputs, version of the code; empty where unknown."""
        digest = self.digest(table, partition)
        return self.lake.made_of(_folder(table), partition, digest) if digest else {}

    def digest(self, table: str, partition: str) -> str | None:
        """The digest of a partition or of a checkpoint; None where there is none to be read."""
        if table != CHECKPOINT:
            there = self.lake.exists(table, partition)
            return self.lake.digest(table, partition) if there else None
        try:
            manifest = self.checkpoints.manifest(partition)
        except CorruptCheckpoint:
            return None
        return manifest.digest if manifest else None


def _folder(table: str) -> str:
    return "checkpoints" if table == CHECKPOINT else table


def lake_root(profile: Profile) -> Path:
    """The lake of a profile: ARENA_LAKE, else data/lake/<its name> in the workspace."""
    return output_folder("ARENA_LAKE", f"data/lake/{profile.name}")


def open_arena() -> Arena:
    """The arena that ARENA_PROFILE, ARENA_LAKE and ARENA_TRAINING_SEED name."""
    return Arena(profile_path(), training_seed=chosen_seed())
