"""What people decide about promotions: that it can be is seen to here, then it is written down.

A decision is about the promotion of one round. `promotion` obeys it, `made_from` counts it, so that
the promotion and what follows are out of date until they are made anew.
"""

from __future__ import annotations

from arena_assets.config.rounds import BASE, until
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.decisions import NAMES, Decision, Kind, decide, decision_on
from arena_assets.flywheel.group import promoted
from arena_assets.flywheel.registry import (
    SHORT,
    Entry,
    RegistryError,
    promoted_rounds,
    resolve,
)


def roll_back(
    arena: Arena, name: str, after: str | None = None, reason: str = "", who: str | None = None
) -> list[Decision]:
    """Let an older model than the promoted one fight on after a round, by default the last one.

    Raises RegistryError where that cannot be, UnknownRound for a round that is none.
    """
    key = _promoted_round(arena, after)
    entry = _candidate(arena, name, key)
    row = promoted(arena, key)
    assert row, "the round has promoted somebody"
    if entry.name == row["contestant"] and entry.digest == row["model_digest"]:
        raise RegistryError(f"{entry.name} is the one that {key} promoted: nothing to roll back")
    if entry.name > row["contestant"]:  # keys sort in time order, and "base" before them
        raise RegistryError(
            f"{entry.name} is newer than {row['contestant']}, which {key} promoted: that is no "
            f"way back; `arena models pin {entry.name}` makes it fight on"
        )
    return [_decided(arena, "rollback", key, entry, reason, who)]


def pin(
    arena: Arena, name: str, after: str | None = None, reason: str = "", who: str | None = None
) -> list[Decision]:
    """Let a model fight on after a round (by default the last promoted) and all that follow it.

    Whatever rounds come to, until `unpin`. Raises RegistryError and UnknownRound as `roll_back`.
    """
    key = _promoted_round(arena, after)
    entry = _candidate(arena, name, key)
    following = [later for later in arena.rounds if later >= key]
    return [_decided(arena, "pin", later, entry, reason, who) for later in following]


def unpin(
    arena: Arena, after: str | None = None, reason: str = "", who: str | None = None
) -> list[Decision]:
    """Take back what was pinned or rolled back after a round (the last promoted) and later ones.

    What rounds before it were told stays: they are turned. Raises RegistryError where nothing is.
    """
    key = _promoted_round(arena, after)
    held = [
        later
        for later in arena.rounds
        if later >= key and (found := decision_on(arena.lake, later)) and found.kind in NAMES
    ]
    if not held:
        raise RegistryError(f"nothing is pinned or rolled back after {key} or later")
    return [decide(arena.lake, "withdraw", later, reason=reason, who=who) for later in held]


def approve(
    arena: Arena,
    after: str | None = None,
    name: str | None = None,
    reason: str = "",
    who: str | None = None,
) -> list[Decision]:
    """Let the model that waits for approval after a round (by default the last one) fight on.

    `name` is who the person means, where it is said. Raises RegistryError where another one waits,
    or nobody does.
    """
    key = _promoted_round(arena, after)
    row = promoted(arena, key)
    assert row, "the round has promoted somebody"
    chosen = row["contestant"]
    if not row["waiting"]:
        raise RegistryError(f"nobody waits for approval after {key}: {chosen} is promoted")
    entry, digest = resolve(arena, chosen), row["model_digest"]
    if name is not None and resolve(arena, name).digest != digest:
        raise RegistryError(f"after {key} it is {chosen} ({digest[:SHORT]}) that waits, not {name}")
    if entry.digest != digest:
        raise RegistryError(
            f"{chosen} ({digest[:SHORT]}), which waits after {key}, is not there any more: run "
            "`arena run`"
        )
    return [_decided(arena, "approve", key, entry, reason, who)]


def _decided(
    arena: Arena, kind: Kind, key: str, entry: Entry, reason: str, who: str | None
) -> Decision:
    return decide(arena.lake, kind, key, entry.name, digest=entry.digest, reason=reason, who=who)


def _promoted_round(arena: Arena, after: str | None) -> str:
    """The round that is meant; it has promoted somebody."""
    rounds = promoted_rounds(arena)
    if after is not None and arena.round(after).key not in rounds:
        there = ", ".join(rounds) or "none"
        raise RegistryError(f"{after} has promoted nobody yet (rounds that have: {there})")
    if not rounds:
        raise RegistryError("no round has promoted anybody yet: run `arena run`")
    return after or rounds[-1]


def _candidate(arena: Arena, name: str, key: str) -> Entry:
    """A model that could fight after a round: whole, and made by then."""
    entry = resolve(arena, name)
    candidates = [BASE, *until(arena.rounds, key)]
    if entry.name not in candidates:
        raise RegistryError(
            f"{entry.name} is none of those that could be promoted after {key}: "
            f"{', '.join(candidates)}"
        )
    if entry.state != "intact":
        raise RegistryError(f"{entry.name} cannot fight: {entry.problem}")
    return entry
