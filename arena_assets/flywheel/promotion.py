"""The gate between two rounds: who of the base model and all checkpoints fights next, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from arena_assets.config.rounds import BASE, until
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.weights import BrokenChain, base_of, models


def choose(
    ratings: Mapping[str, float], candidates: Sequence[str], rule: Literal["best", "latest"]
) -> tuple[str, str]:
    """Who fights next, and the reason as people read it.

    `candidates` are in time order, the newest last; one without a rating met nobody and is not
    compared. By "best" the highest rating wins, among equals the newer one: it has seen more. By
    "latest" the newest fights on however it is rated. Raises ValueError where nobody can be
    promoted, also where the newest has no rating.
    """
    rated = [name for name in candidates if name in ratings]
    newest = candidates[-1]
    if rule == "latest" and newest in ratings:
        return newest, "the newest checkpoint fights on (promotion: latest)"
    if rule == "latest" or not rated:
        unrated = newest if rule == "latest" else ", ".join(candidates)
        raise ValueError(f"no rating of {unrated}: no battle of it was decided")
    best = max(rated, key=lambda name: (ratings[name], rated.index(name)))
    others = ", ".join(f"{name} {ratings[name]:.0f}" for name in rated)
    return best, f"the best rating of {others}"


def promotion_of(arena: Arena, key: str) -> dict[str, Any]:
    """The row of promotions of a round.

    Raises BrokenChain where nobody can be promoted, CorruptCheckpoint where the chosen files are
    not those that were committed.
    """
    rated = {row["contestant"]: row for row in arena.lake.read("ratings", key).to_pylist()}
    ratings = {name: row["rating"] for name, row in rated.items()}
    candidates = [BASE, *until(arena.rounds, key)]
    try:
        chosen, reason = choose(ratings, candidates, arena.profile.promotion)
    except ValueError as nobody:
        raise BrokenChain(str(nobody)) from nobody
    if chosen == BASE:
        base = base_of(arena, models(arena))
        path, digest = base.path, base.digest
    else:
        path, digest = arena.checkpoints.path(chosen), arena.checkpoints.verify(chosen).digest
    return {
        "round": key,
        "contestant": chosen,
        "model": str(path),
        "model_digest": digest,
        **{name: rated[chosen][name] for name in ("rating", "lower", "upper")},
        "reason": reason,
    }
