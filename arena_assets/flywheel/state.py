"""What is out of date: a table that was made from something else than it would be made from now.

A round is done when its promotion is there and nothing that it rests on is out of date: its own
tables, and through the hand-over those of the rounds before. Of what is read in part (the prompts
of a slice among all) only that part counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from arena_assets.config.rounds import until
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.changes import differences, in_short
from arena_assets.flywheel.group import promoted
from arena_assets.flywheel.ingredients import Input, testset_version
from arena_assets.flywheel.made_from import (
    OF_PREPARATION,
    OF_REPORTS,
    OF_ROUND,
    identity_of,
    inputs_of,
    made_of,
    settings_of,
)
from arena_assets.flywheel.moment import Moment
from arena_assets.lake.code import code_version
from arena_assets.lake.identity import identity
from arena_assets.lake.lake import ALL

_UNNOTED: Final = "made by hand, or before this was noted"


@dataclass(frozen=True)
class State:
    """How a round stands; of one that is out of date, the first table that is.

    One that waits is up to date, but its promotion does not hold yet.
    """

    name: Literal["done", "out of date", "missing", "waiting for approval"]
    first: tuple[str, str] | None = None  # table, partition
    # what is another one there, as far as its note tells; words, by which no state is another
    because: str = field(default="", compare=False)

    @property
    def why(self) -> str | None:
        """The first table in words: its round or source with it, where it has any."""
        if self.first is None:
            return None
        table, partition = self.first
        return table if partition == ALL else f"{table} of {partition}"


class Freshness:
    """Which partitions are out of date at a moment; each is looked at once."""

    def __init__(self, now: Moment):
        self.now = now
        self._inputs: dict[tuple[str, str], list[Input]] = {}
        self._own: dict[tuple[str, str], bool] = {}

    def outdated(self, table: str, partition: str) -> bool:
        """Whether a partition is missing or was made from something else."""
        place = table, partition
        if place not in self._own:
            self._own[place] = self._made_from(place) != self._would_be(place)
        return self._own[place]

    def below(self, table: str, partition: str) -> Iterator[tuple[str, str]]:
        """The partitions out of date that one rests on, itself among them, the first ones first."""
        seen: set[tuple[str, str]] = set()
        waiting = [((table, partition), False)]
        while waiting:
            place, rests_are_known = waiting.pop()
            if rests_are_known:
                if self.outdated(*place):
                    yield place
            elif place not in seen:
                seen.add(place)
                above = [(p.table, p.partition) for p in self._read(place) if p.rests]
                waiting += [(place, True), *((other, False) for other in reversed(above))]

    def because(self, table: str, partition: str) -> list[str]:
        """What changed since a partition was made; empty where its note tells nothing."""
        place = table, partition
        would_be = made_of(self.now, table, partition, self._read(place))
        return differences(self.now.arena.made_of(*self.noted(*place)), would_be)

    def noted(self, table: str, partition: str) -> tuple[str, str]:
        """Where the note of a partition lies: a test set is noted with its newest version."""
        if table == "testset_versions" and (versions := self.now.arena.lake.partitions(table)):
            return table, versions[-1]
        return table, partition

    def _read(self, place: tuple[str, str]) -> list[Input]:
        if place not in self._inputs:
            self._inputs[place] = inputs_of(self.now, *place)
        return self._inputs[place]

    def _would_be(self, place: tuple[str, str]) -> str:
        return identity_of(self.now, *place, self._read(place))

    def _made_from(self, place: tuple[str, str]) -> str | None:
        table, partition = place
        if table == "testset_versions":  # one that the settings ask for is there, or none
            version = testset_version(self.now)
            return self.now.arena.made_from(table, version) if version else None
        return self.now.arena.made_from(table, partition)


def states(arena: Arena, last: str | None = None) -> dict[str, State]:
    """How every round up to `last` stands, in time order."""
    found, freshness = {}, Freshness(Moment(arena))
    for key in until(arena.rounds, last or max(arena.rounds)):
        row = promoted(arena, key)
        if row is None:
            found[key] = State("missing")
            continue
        first = next(freshness.below("promotions", key), None)
        if first is None:
            found[key] = State("waiting for approval" if row["waiting"] else "done")
            continue
        found[key] = State("out of date", first, in_short(freshness.because(*first)))
    return found


class Change(NamedTuple):
    """A partition that is out of date, and why as far as its note tells."""

    table: str
    partition: str
    because: str


def changes(arena: Arena, last: str | None = None) -> list[Change]:
    """What was made once and is out of date itself, of all that rounds up to `last` rest on.

    What follows from these is not among them: it is made again where rows become others.
    """
    freshness, found = Freshness(Moment(arena)), {}
    for key in until(arena.rounds, last or max(arena.rounds)):
        for table, partition in freshness.below("promotions", key):
            noted = freshness.noted(table, partition)
            if arena.digest(*noted):
                because = in_short(freshness.because(table, partition))
                found[table, partition] = Change(table, partition, because or _UNNOTED)
    return list(found.values())


def state_of(arena: Arena, key: str) -> State:
    """How a round stands."""
    return states(arena, key)[key]


def outdated(arena: Arena, tables: Iterable[str], partition: str) -> list[str]:
    """Those of the tables that are missing or were not made from what is there now."""
    freshness = Freshness(Moment(arena))
    return [table for table in tables if freshness.outdated(table, partition)]


def outdated_round(arena: Arena, key: str) -> list[str]:
    """In words: all that the promotion of a round rests on and that is out of date."""
    places = Freshness(Moment(arena)).below("promotions", key)
    return [
        table if partition in (key, ALL) else f"{table} of {partition}"
        for table, partition in places
        if (table, partition) != ("promotions", key)
    ]


def outdated_preparation(arena: Arena) -> list[str]:
    """The tables of models, prompts, slices and test set that are out of date."""
    freshness = Freshness(Moment(arena))
    sources = [source.name for source in arena.profile.prompts.sources]
    old = [f"prompts of {name}" for name in sources if freshness.outdated("prompts", name)]
    return [*old, *(table for table in OF_PREPARATION if freshness.outdated(table, ALL))]


def outdated_reports(arena: Arena, key: str) -> list[str]:
    """The reports of a round that are missing or out of date."""
    reports = set(OF_REPORTS) - (
        {"consistency"} if arena.profile.ratings.reference is None else set()
    )
    return outdated(arena, sorted(reports), key)


def round_identity(arena: Arena, key: str) -> str:
    """What a round would be made from now, before any of its own tables is."""
    now = Moment(arena)
    parts = {
        table: [
            code_version(table),
            settings_of(now, table, key),
            [
                [part.table, part.partition, part.said]
                for part in inputs_of(now, table, key)
                if part.table not in OF_ROUND or part.partition != key
            ],
        ]
        for table in OF_ROUND
    }
    return identity("round", parts=parts)
