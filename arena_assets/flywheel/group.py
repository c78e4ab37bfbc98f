"""Who fights: the contestants of a round and of the arena after it, given the target's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from arena_assets.config.contestants import Opponent
from arena_assets.config.places import resolve
from arena_assets.config.rounds import BASE
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.weights import local_engine
from arena_assets.generation.contestants import Contestant, opponent_contestant, target_contestant
from arena_assets.lake.lake import MissingPartition
from arena_assets.models.engines import Weights
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
    arena: Arena, target: str, weights: Weights, known: Mapping[str, Weights]
) -> list[Contestant]:
    """The group of a round: its target, then every opponent."""
    return [target_contestant(arena.profile.target, target, weights), *_opponents(arena, known)]


def group_of_arena(
    arena: Arena, checkpoints: Mapping[str, Weights], known: Mapping[str, Weights]
) -> list[Contestant]:
    """Who meets on the test set: the base model, checkpoints by round, then every opponent."""
    settings = arena.profile.target
    met = {BASE: _weights(arena, known, settings.model), **checkpoints}
    targets = [target_contestant(settings, name, weights) for name, weights in met.items()]
    return [*targets, *_opponents(arena, known)]


def stand_in(arena: Arena, name: str | None, digest: str | None) -> Weights:
    """Local weights of which no more than the digest counts; None: they are not there yet."""
    return Weights(name or UNKNOWN, None, digest or UNKNOWN, engine=local_engine(arena))


def _opponents(arena: Arena, known: Mapping[str, Weights]) -> list[Contestant]:
    return [
        opponent_contestant(opponent, _weights_of(arena, opponent, known))
        for opponent in arena.profile.opponents
    ]


def _weights_of(arena: Arena, opponent: Opponent, known: Mapping[str, Weights]) -> Weights:
    if opponent.model is None:
        return recording(opponent.recorded)
    return _weights(arena, known, opponent.model)


def _weights(arena: Arena, known: Mapping[str, Weights], name: str) -> Weights:
    return known.get(name) or stand_in(arena, name, None)


def recording(path: str) -> Weights:
    """A file of recorded answers in the place of weights."""
    return Weights("recorded", resolve(path), digest_of(str(resolve(path))), recorded=True)
