"""Who fights: the contestants of a round and of the arena after it, given the target's weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from arena_assets.config.contestants import Opponent
from arena_assets.config.places import resolve
from arena_assets.config.rounds import BASE
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.weights import base_of, local_engine
from arena_assets.generation.contestants import Contestant, opponent_contestant, target_contestant
from arena_assets.lake.lake import MissingPartition
from arena_assets.models.model import Local, Model, Recorded
from arena_assets.reading.places import digest_of

UNKNOWN: Final = "unknown"  # the digest of weights that are not there yet: nobody's


def promoted(arena: Arena, key: str) -> dict[str, Any] | None:
    """The row of promotions of a round; None where nobody was promoted, or the file is torn."""
    try:
        (row,) = arena.lake.read("promotions", key).to_pylist()
    except MissingPartition:
        return None
    return row


def group_of_round(
    arena: Arena, target: str, model: Local, known: Mapping[str, Model]
) -> list[Contestant]:
    """The group of a round: its target, then every opponent."""
    return [target_contestant(arena.profile.target, target, model), *_opponents(arena, known)]


def group_of_arena(
    arena: Arena, checkpoints: Mapping[str, Local], known: Mapping[str, Model]
) -> list[Contestant]:
    """Who meets on the test set: the base model, checkpoints by round, then every opponent."""
    settings = arena.profile.target
    there = settings.model in known
    base = base_of(arena, known) if there else stand_in(arena, settings.model, None)
    met = {BASE: base, **checkpoints}
    targets = [target_contestant(settings, name, model) for name, model in met.items()]
    return [*targets, *_opponents(arena, known)]


def stand_in(arena: Arena, name: str | None, digest: str | None) -> Local:
    """Local weights of which no more than the digest counts; None: they are not there yet."""
    return Local(
        name or UNKNOWN, Path(UNKNOWN), digest or UNKNOWN, engine_settings=local_engine(arena)
    )


def _opponents(arena: Arena, known: Mapping[str, Model]) -> list[Contestant]:
    return [
        opponent_contestant(opponent, _model_of(arena, opponent, known))
        for opponent in arena.profile.opponents
    ]


def _model_of(arena: Arena, opponent: Opponent, known: Mapping[str, Model]) -> Model:
    if opponent.model is None:
        return recording(opponent.recorded)
    return known.get(opponent.model) or stand_in(arena, opponent.model, None)


def recording(path: str) -> Recorded:
    """A file of recorded answers in the place of a model."""
    return Recorded(resolve(path), digest_of(str(resolve(path))))
