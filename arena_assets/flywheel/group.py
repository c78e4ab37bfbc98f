"""Who fights: the group of a round and of the arena after it, with the models that are there.

Whoever makes a round and whoever plans it ask here. A contestant whose model is not there yet, a
checkpoint of a round to come or weights that were not found, has None in its place.
"""

from __future__ import annotations

from collections.abc import Mapping

from arena_assets.config.rounds import BASE
from arena_assets.flywheel.arena import Arena
from arena_assets.generation.contestants import Contestant, opponent_contestant, target_contestant
from arena_assets.models.model import Local, Model, model_of


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
    base = known.get(settings.model)
    met = {BASE: base if isinstance(base, Local) else None, **checkpoints}
    targets = [target_contestant(settings, name, model) for name, model in met.items()]
    return [*targets, *_opponents(arena, known)]


def _opponents(arena: Arena, known: Mapping[str, Model]) -> list[Contestant]:
    return [
        opponent_contestant(opponent, model_of(opponent, known))
        for opponent in arena.profile.opponents
    ]
