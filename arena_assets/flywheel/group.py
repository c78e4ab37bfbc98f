"""Who fights: the group of a round and of the arena after it, with the models that are there.

Whoever makes a round, plans it or asks what it is made from asks here. A contestant whose model is
not there yet, a checkpoint of a round to come or weights that were not found, has None in its
place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arena_assets.config.rounds import BASE, until
from arena_assets.curation.split import SELECTS
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.weights import base_of
from arena_assets.generation.contestants import (
    Contestant,
    opponent_contestant,
    own_samples,
    target_contestant,
)
from arena_assets.lake.lake import MissingPartition
from arena_assets.models.model import Local, Model, model_of


def promoted(arena: Arena, key: str) -> dict[str, Any] | None:
    """The row of promotions of a round; None where nobody was promoted, or the file is torn."""
    try:
        (row,) = arena.lake.read("promotions", key).to_pylist()
    except MissingPartition:
        return None
    return row


def best_rated(arena: Arena, key: str) -> str | None:
    """The best rated of the base model and its checkpoints after a round, of equals the newest.

    Rated on the prompts that select; whom the gate promoted does not count. None where nobody was
    rated.
    """
    try:
        rows = arena.lake.read("ratings", key).to_pylist()
    except MissingPartition:
        return None
    ratings = {row["contestant"]: row["rating"] for row in rows if row["purpose"] in SELECTS}
    rated = [name for name in (BASE, *until(arena.rounds, key)) if name in ratings]
    return max(reversed(rated), key=ratings.__getitem__, default=None)


def group_of_round(
    arena: Arena, key: str, target: str, model: Local | None, known: Mapping[str, Model]
) -> list[Contestant]:
    """The group of a round: its target, then the opponents of then; or the target's own samples."""
    profile = arena.profile
    if on_policy := profile.rounds[key].on_policy:
        return own_samples(profile.target, target, model, on_policy, profile.seed)
    opponents = [
        opponent_contestant(o, model if o.follows else model_of(o, known))
        for o in profile.opponents
        if o.fights_in(key)
    ]
    return [target_contestant(profile.target, target, model), *opponents]


def group_of_arena(
    arena: Arena, key: str, checkpoints: Mapping[str, Local | None], known: Mapping[str, Model]
) -> list[Contestant]:
    """Who meets on the test set after a round: the base model, checkpoints, the opponents of then.

    Those that follow the target are there as its checkpoints already.
    """
    settings = arena.profile.target
    base = base_of(arena, known) if settings.model in known else None
    met = {BASE: base, **checkpoints}
    targets = [target_contestant(settings, name, model) for name, model in met.items()]
    opponents = [
        opponent_contestant(o, model_of(o, known))
        for o in arena.profile.opponents
        if o.fights_in(key) and not o.follows
    ]
    return [*targets, *opponents]
