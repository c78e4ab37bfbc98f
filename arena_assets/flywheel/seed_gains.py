"""Gains of one arena under several seeds of training, each for itself and pooled."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from arena_assets.config.promotion import Measure
from arena_assets.config.rounds import ROUND_KEY
from arena_assets.curation.split import SELECTS
from arena_assets.flywheel.rated import arena_battles, paired_differences
from arena_assets.lake.lake import Lake, MissingPartition
from arena_assets.ratings.comparisons import UnratableBattles
from arena_assets.ratings.gains import Gain, gains, pooled
from arena_assets.ratings.paired import Paired, paired_over_seeds

_ITERATION = re.compile(r"^i\d\d$")


class NoGain(ValueError):
    """Lakes that cannot be compared; the message names the lake and what is missing."""


@dataclass(frozen=True)
class SeedGain:
    """The gain of one lake, or of all (`name` "all"): rating points, and the paired difference."""

    name: str
    after: str
    of: str
    over: str
    points: Paired
    share: Paired


def gained(
    roots: Sequence[Path],
    of: str,
    over: str,
    after: str | None,
    measure: Measure,
    purposes: Collection[str],
) -> list[SeedGain]:
    """A row a lake, and one over all where there are several.

    `of` and `over` are "promoted", a contestant, or an iteration (i03), whose best checkpoint is
    taken by the prompts that select. Raises NoGain where a lake has no such round or contestant,
    and where test sets differ.
    """
    twice = next((root for root in roots if roots.count(root) > 1), None)
    if twice:
        raise NoGain(f"{twice} is given twice: a seed counts once")
    lakes = [Lake(root) for root in roots]
    key = after or _last_round(lakes)
    _refuse_other_tests(lakes)
    found, points, shares = [], [], []
    for lake in lakes:
        one, two = (_contestant(lake, key, name) for name in (of, over))
        gain = _gain(lake, key, one, two, purposes)
        by = measure if one != two else "points"  # nobody meets himself, and loses nothing by it
        table = paired_differences(lake, key, purposes, one, two, by).to_pylist()
        if not table:
            raise NoGain(f"{lake.root}: {one} and {two} have no prompt with a verdict on both")
        share = {row["prompt_id"]: (row["family"], row["difference"]) for row in table}
        alone = paired_over_seeds([share])
        found.append(SeedGain(lake.root.name, key, one, two, pooled([gain]), alone))
        points.append(gain)
        shares.append(share)
    if len(lakes) > 1:
        alone = paired_over_seeds(shares)
        found.append(SeedGain("all", key, of, over, pooled(points), alone))
    return found


def _last_round(lakes: Sequence[Lake]) -> str:
    """The last round that all lakes have promoted after."""
    if not lakes:
        raise NoGain("no lake is there: run `arena run` first")
    common = set.intersection(*(set(lake.partitions("promotions")) for lake in lakes))
    if not common:
        names = ", ".join(str(lake.root) for lake in lakes)
        raise NoGain(f"no round is rated in every lake ({names}); run `arena run`")
    return max(common)


def _refuse_other_tests(lakes: Sequence[Lake]) -> None:
    for lake in lakes:
        if not lake.exists("arena_testset"):
            raise NoGain(f"{lake.root}: no test set there; is it a lake?")
        if lake.digest("arena_testset") != lakes[0].digest("arena_testset"):
            raise NoGain(
                f"{lake.root} has another test set than {lakes[0].root}: gains on other prompts "
                "are not pooled"
            )


def _contestant(lake: Lake, key: str, name: str) -> str:
    """The contestant that a name stands for in a lake after a round."""
    try:
        rows = lake.read("ratings", key).to_pylist()
        (promoted,) = lake.read("promotions", key).to_pylist()
    except MissingPartition as missing:
        raise NoGain(str(missing)) from missing
    if name == "promoted":
        return promoted["contestant"]
    ratings = {row["contestant"]: row["rating"] for row in rows if row["purpose"] in SELECTS}
    fitting = [name] if name in ratings else []
    if _ITERATION.match(name):
        fitting = [c for c in ratings if ROUND_KEY.match(c) and c.startswith(f"{name}.")]
    if not fitting:
        raise NoGain(
            f"{lake.root}: {name!r} is no contestant after {key} (there: {', '.join(ratings)}; or "
            "promoted, or an iteration such as i01)"
        )
    return max(fitting, key=lambda contestant: (ratings[contestant], contestant))


def _gain(lake: Lake, key: str, one: str, two: str, purposes: Collection[str]) -> Gain:
    try:
        found = gains(arena_battles(lake, key, purposes).table, [one], two)
    except UnratableBattles as unratable:
        raise NoGain(f"{lake.root}, {key}: {unratable}") from unratable
    if one not in found:
        raise NoGain(
            f"{lake.root}, {key}: no gain of {one} over {two}: one of them has no decided battle "
            "there"
        )
    return found[one]
