"""The gate between two rounds: who of the base model and all checkpoints fights next, and why.

A rule of the profile chooses by the test prompts that select; a guard may keep the fighter; a
person may have to approve, or has decided otherwise (see `decisions`). What is reported beside the
choice, the gain over the base model, comes from the prompts that report and chooses nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import pyarrow as pa

from arena_assets.config.promotion import Promotion
from arena_assets.config.rounds import BASE, until
from arena_assets.curation.split import HELD_OUT, REPORTS, SELECTS
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.decisions import NAMES, Decision, decision_on
from arena_assets.flywheel.group import promoted
from arena_assets.flywheel.rated import paired_differences
from arena_assets.flywheel.weights import BrokenChain, base_of, models
from arena_assets.ratings.paired import Paired, paired

APPROVAL: Final = "approval"  # what a promotion may wait for
_DONE = {"pin": "pinned to", "rollback": "rolled back to"}


@dataclass(frozen=True)
class Choice:
    """Who fights next, and why."""

    contestant: str
    reason: str


def choose(
    ratings: Mapping[str, float], candidates: Sequence[str], rule: Literal["best", "latest"]
) -> tuple[str, str]:
    """Who fights next by rating or by age, and the reason as people read it.

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


def shown(test: Paired, newest: str, fighter: str, settings: Promotion) -> Choice:
    """The newest checkpoint where the test shows it better, or not worse by the margin.

    Else the fighter. The bound that counts is the lower one of the paired interval.
    """
    better = settings.rule == "better"
    least = 0.0 if better else -settings.margin
    than = f"better than {fighter}" if better else f"not worse than {fighter}"
    margin = "" if better else f", and may lose {settings.margin:g}"
    said = f"{in_words(test, settings)}{margin}"
    if test.lower > least:
        return Choice(newest, f"{newest} is shown to be {than}: {said}")
    return Choice(fighter, f"{fighter} fights on, {newest} is not shown to be {than}: {said}")


def in_words(test: Paired, settings: Promotion) -> str:
    """A paired test as people read it."""
    unit = {"score": "of the judge's score"}.get(settings.measure, "of the points")
    return (
        f"{test.difference:+.3f} {unit} ({settings.level:.0%} interval {test.lower:+.3f} to "
        f"{test.upper:+.3f}, paired on {test.prompts} prompts of {test.families} families)"
    )


def guarded(choice: Choice, fighter: str, differences: pa.Table, settings: Promotion) -> Choice:
    """The fighter instead, where the chosen one loses too much in a category.

    `differences` are points of the chosen one against the fighter, a row a prompt. Categories of
    fewer prompts than `category_prompts` are no guide; the reason counts them.
    """
    drop, least = settings.guard.category_drop, settings.guard.category_prompts
    if drop is None or choice.contestant == fighter:
        return choice
    counted = differences.group_by("category").aggregate(
        [("difference", "mean"), ("difference", "count")]
    )
    rows = sorted(counted.to_pylist(), key=lambda row: (row["difference_mean"], row["category"]))
    known = [row for row in rows if row["difference_count"] >= least]
    small = len(rows) - len(known)
    said = f"{small} categories have fewer than {least} prompts" if small else "all were looked at"
    if known and known[0]["difference_mean"] < -drop:
        worst = known[0]
        return Choice(
            fighter,
            f"{fighter} fights on: {choice.contestant} loses {-worst['difference_mean']:.3f} of "
            f"the points in {worst['category']} ({worst['difference_count']} prompts) and may lose "
            f"{drop:g} ({said}); else: {choice.reason}",
        )
    return Choice(
        choice.contestant, f"{choice.reason}; no category loses more than {drop:g} ({said})"
    )


def promotion_of(arena: Arena, key: str) -> dict[str, Any]:
    """The row of promotions of a round.

    Raises BrokenChain where nobody can be promoted, CorruptCheckpoint where the chosen files are
    not those that were committed.
    """
    rows = arena.lake.read("ratings", key).to_pylist()
    rated = {row["contestant"]: row for row in rows if row["purpose"] in SELECTS}
    candidates = [BASE, *until(arena.rounds, key)]
    fighter, decision = fighter_of(arena, key), decision_on(arena.lake, key)
    named = decision if decision and decision.kind in NAMES else None
    try:
        choice = (
            _named(named, key, candidates, rated)
            if named
            else _by_rule(arena, key, {n: row["rating"] for n, row in rated.items()}, candidates)
        )
    except ValueError as nobody:
        raise BrokenChain(str(nobody)) from nobody
    chosen = choice.contestant
    if chosen == BASE:
        base = base_of(arena, models(arena))
        path, digest = base.path, base.digest
    else:
        path, digest = arena.checkpoints.path(chosen), arena.checkpoints.verify(chosen).digest
    if named:
        _refuse_other_weights(named, key, digest)
    manual = arena.profile.promotion.approval == "manual" and not named and chosen != fighter
    waiting, approval = _approval(decision, chosen, digest) if manual else (None, "")
    return {
        "round": key,
        "contestant": chosen,
        "model": str(path),
        "model_digest": digest,
        **{name: rated[chosen][name] for name in ("rating", "lower", "upper")},
        "reason": choice.reason + approval,
        "waiting": waiting,
        **_gained(rows, chosen),
    }


def gain_in_words(row: Mapping[str, Any], prefix: str = "") -> str:
    """A gain of a row of promotions as people read it; "-" where there is none."""
    gain, lower, upper = (row[f"{prefix}gain{part}"] for part in ("", "_lower", "_upper"))
    return "-" if gain is None else f"{gain:+.0f} (95 % interval {lower:+.0f} to {upper:+.0f})"


def fighter_of(arena: Arena, key: str) -> str:
    """Who fought in a round: the base model, or whom the round before promoted."""
    previous = arena.round(key).previous
    row = promoted(arena, previous) if previous else None
    return row["contestant"] if row else BASE


def _named(
    decision: Decision, key: str, candidates: Sequence[str], rated: Mapping[str, Any]
) -> Choice:
    chosen = decision.contestant
    if chosen not in candidates or chosen not in rated:
        why = "has no rating" if chosen in candidates else "is not among them"
        raise ValueError(
            f"{key} was {_DONE[decision.kind]} {chosen} {decision.in_words}, which {why} (there: "
            f"{', '.join(name for name in candidates if name in rated)}); take it back by `arena "
            f"models unpin --after {key}`"
        )
    return Choice(str(chosen), f"{_DONE[decision.kind]} {chosen} {decision.in_words}")


def _refuse_other_weights(decision: Decision, key: str, digest: str) -> None:
    """BrokenChain where whom a person named was trained again since: they saw other weights."""
    if decision.digest not in (None, digest):
        name = decision.contestant
        raise BrokenChain(
            f"{key} was {_DONE[decision.kind]} {name} with digest {str(decision.digest)[:12]} "
            f"{decision.in_words}, and {name} is another one since ({digest[:12]}): `arena models "
            f"pin {name} --after {key}` takes that one, `arena models unpin --after {key}` takes "
            "the decision back"
        )


def _by_rule(
    arena: Arena, key: str, ratings: Mapping[str, float], candidates: Sequence[str]
) -> Choice:
    settings, fighter, newest = arena.profile.promotion, fighter_of(arena, key), candidates[-1]
    if settings.rule == "best" or settings.rule == "latest":
        choice = Choice(*choose(ratings, candidates, settings.rule))
    else:
        found = paired_differences(arena.lake, key, SELECTS, newest, fighter, settings.measure)
        if not found.num_rows:
            raise ValueError(f"{newest} and {fighter} have no test prompt with a verdict on both")
        test = paired(found["difference"].to_pylist(), found["family"].to_pylist(), settings.level)
        choice = shown(test, newest, fighter, settings)
    if settings.guard.category_drop is None or choice.contestant == fighter:
        return choice
    found = paired_differences(arena.lake, key, SELECTS, choice.contestant, fighter)
    return guarded(choice, fighter, found, settings)


def _approval(decision: Decision | None, chosen: str, digest: str) -> tuple[str | None, str]:
    """What a promotion waits for, if it does, and what its reason says of that."""
    if decision is None:
        return APPROVAL, "; waits for a person's approval"
    if decision.contestant not in (None, chosen) or decision.digest not in (None, digest):
        return APPROVAL, f"; waits for approval: {decision.contestant} was approved, not this one"
    return None, f"; approved {decision.in_words}"


def _gained(rows: Sequence[Mapping[str, Any]], chosen: str) -> dict[str, float | None]:
    """The gain over the base model by the prompts that report, and by what is held out."""
    parts = ("gain", "gain_lower", "gain_upper")
    found: dict[str, float | None] = {}
    for prefix, purposes in (("", REPORTS), ("held_out_", (HELD_OUT,))):
        row = next(
            (r for r in rows if r["contestant"] == chosen and r["purpose"] in purposes), None
        )
        found |= {f"{prefix}{part}": row[part] if row else None for part in parts}
    return found
