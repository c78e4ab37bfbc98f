"""What a round's arena says by the purpose of its prompts: ratings, gains, paired differences."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import pyarrow as pa

from arena_assets.config.promotion import Measure
from arena_assets.config.rounds import BASE, until
from arena_assets.curation.split import HELD_OUT, REPORT, SELECT, WHOLE
from arena_assets.flywheel.arena import Arena
from arena_assets.lake.lake import ALL, Lake
from arena_assets.ratings.battles import Battles, read_battles
from arena_assets.ratings.bradley_terry import Anchor, Intervals, rate
from arena_assets.ratings.comparisons import UnratableBattles
from arena_assets.ratings.gains import gains, pooled
from arena_assets.ratings.paired import differences


def arena_battles(lake: Lake, key: str, purposes: Collection[str]) -> Battles:
    """The battles after a round that decide, on the test prompts of some purposes.

    They carry the families of the prompts, by which intervals are clustered.
    """
    chosen = _chosen(lake, key, purposes, "battles.*, testset.family as prompt_family, category")
    return read_battles(chosen, "lake")


def ratings_of(arena: Arena, key: str, log: Callable[[str], None]) -> list[dict[str, Any]]:
    """The rows of ratings of a round: everybody, by purpose of the prompts, best first.

    Raises UnratableBattles where a purpose by which is promoted or reported cannot be rated; what
    is held out is then left out, and `log` told.
    """
    settings = arena.profile.ratings
    anchor = Anchor(settings.anchor, settings.anchor_rating)
    intervals = Intervals(
        settings.interval, settings.simultaneous, settings.bootstrap, arena.profile.seed
    )
    rows: list[dict[str, Any]] = []
    for purpose in purposes_of(arena.lake):
        try:
            battles = arena_battles(arena.lake, key, [purpose]).table
            rated = rate(battles, anchor, intervals).to_pylist()
            gained = gains(battles, until(arena.rounds, key), BASE)
        except UnratableBattles as unratable:
            if purpose != HELD_OUT:
                raise UnratableBattles(f"prompts of purpose {purpose}: {unratable}") from unratable
            log(f"what is held out has no ratings: {unratable}")
            continue
        for row in rated:
            over = pooled([gained[row["contestant"]]]) if row["contestant"] in gained else None
            row |= {
                "round": key,
                "purpose": purpose,
                "gain": over and over.difference,
                "gain_lower": over and over.lower,
                "gain_upper": over and over.upper,
            }
            rows.append(row)
    return rows


def purposes_of(lake: Lake) -> list[str]:
    """The purposes of the present test prompts."""
    found = lake.read("arena_testset", columns=["purpose"])
    there = set(found["purpose"].to_pylist())
    return [purpose for purpose in (SELECT, REPORT, WHOLE, HELD_OUT) if purpose in there]


def paired_differences(
    lake: Lake,
    key: str,
    purposes: Collection[str],
    candidate: str,
    baseline: str,
    measure: Measure = "points",
) -> pa.Table:
    """A row a test prompt after a round: prompt_id, family, category, difference."""
    if measure != "score":
        battles = arena_battles(lake, key, purposes).table
        return differences(battles, candidate, baseline, measure)
    columns = "prompt_id, family, category, contestant_1, contestant_2, score_1, score_2"
    scored = _chosen(lake, key, purposes, columns, "and role = 'deciding' and score_1 is not null")
    return differences(scored, candidate, baseline, measure)


def _chosen(
    lake: Lake, key: str, purposes: Collection[str], columns: str, which: str = ""
) -> pa.Table:
    return lake.query(
        f"""
        select {columns} from battles join testset using (prompt_id)
        where purpose in (select unnest($purposes)) {which}
        """,
        {"purposes": list(purposes)},
        battles=("arena_battles", key),
        testset=("arena_testset", ALL),
    )
