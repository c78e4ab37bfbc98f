"""Who fights: the group of a round and of the arena after it, with the models that are there.

Whoever makes a round, plans it or asks what it is made from asks here. A contestant whose model is
not there yet, a checkpoint of a round to come or weights that were not found, has None in its
place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arena_assets.config.rounds import BASE
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.weights import base_of
from arena_assets.generation.contestants import Contestant, opponent_contestant, target_contestant
from arena_assets.lake.lake import MissingPartition
from arena_assets.models.model import Local, Model, model_of


def promoted(arena: Arena, key: str) -> dict[str, Any] | None:
    """The row of promotions of a round; None where nobody was promoted, or the file is torn."""
    try:
        (row,) = arena.lake.read("promotions", key).to_pylist()
    except MissingPartition:
        return None
    return row


def group_of_round(
    arena: Arena, target: str, model: Local | None, known: Mapping[str, Model]
) -> list[Contestant]:
    """The group of a round: its target, then every opponent."""
    return [target_contestant(arena.profile.target, target, model), *_opponents(arena, known)]


def group_of_arena(
    arena: Arena, checkpoints: Mapping[str, Local | None], known: Mapping[str, Model]
) -> list[Contestant]:
    """Who meets on the test set: the base model, checkpoints by round, then every opponent."""
    settings = arena.profile.target
    base = base_of(arena, known) if settings.model in known else None
    met = {BASE: base, **checkpoints}
    targets = [target_contestant(settings, name, model) for name, model in met.items()]
    return [*targets, *_opponents(arena, known)]


def _opponents(arena: Arena, known: Mapping[str, Model]) -> list[Contestant]:
    return [
        opponent_contestant(opponent, model_of(opponent, known))
        for opponent in arena.profile.opponents
    ]
