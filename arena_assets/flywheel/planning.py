"""What a run will take before it starts: responses, games, tokens, time and cost, round by round.

Numbers of responses and games are exact. What the stores hold already is not counted again where it
can be known: answers of models that exist, games of answers that exist. Tokens, time and cost are
estimates from what the same contestant or judge took so far, or from the profile's rates. What
neither says is None; a total says what is known of it, and of whom it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from math import comb
from typing import Any, TypeVar

import pyarrow as pa

from arena_assets.config.judges import LLMJudge
from arena_assets.config.profile import Profile
from arena_assets.config.ratings import ActiveSampling
from arena_assets.config.rounds import BASE, until
from arena_assets.curation.testset import testset_prompts
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.group import group_of_arena, group_of_round
from arena_assets.flywheel.handover import arena_contestants, round_contestants, round_prompts
from arena_assets.flywheel.weights import BrokenChain, known_models
from arena_assets.generation import responses as answering
from arena_assets.generation.contestants import Contestant, target_contestant
from arena_assets.judging import games as judging
from arena_assets.judging.draw import Mode, most_battles, open_draw
from arena_assets.judging.games import AwaitedJudge
from arena_assets.judging.panel import Member, members_of_arena, members_of_round
from arena_assets.lake.lake import Lake, MissingPartition
from arena_assets.lake.store import Store
from arena_assets.models.model import Local, Model

_Found = TypeVar("_Found")
_NOTHING: dict[str, Any] = {
    "to_do": 0,
    "prompt_tokens": 0,
    "completion_tokens": 0,
    "most_completion_tokens": 0,
    "seconds": 0.0,
    "cost": 0.0,
}


@dataclass(frozen=True)
class Work:
    """One kind of work of one contestant or judge in a round.

    `total` is all that the round needs, `to_do` what neither a store nor an earlier round of the
    plan has (at most: answers that do not exist yet may repeat others). Tokens, seconds and cost
    are those of `to_do`.
    """

    round: str
    work: str
    who: str
    total: int | None
    to_do: int | None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    most_completion_tokens: int | None = None  # the limit of max_tokens
    seconds: float | None = None
    cost: float | None = None


@dataclass(frozen=True)
class Rate:
    """What one response or game took so far on average; None where nothing is known."""

    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Contest:
    """Who answers which prompts in a round, and who judges it, as far as it is there yet.

    A round has two: its own battles over its slice, and the arena after it over the test set.
    `count` is how many prompts there are or, while `prompts` are not drawn (None), will be.
    """

    round: str
    responses: str  # the tables
    judgments: str
    prompts: pa.Table | None
    count: int | None
    contestants: list[Contestant]
    members: list[Member]
    sampling: ActiveSampling | None = None
    mode: Mode = "all_pairs"

    @property
    def apart(self) -> int:
        """How many of the contestants do not meet each other."""
        opponents = sum(contestant.role == "opponent" for contestant in self.contestants)
        return 0 if self.mode == "all_pairs" else opponents


def plan(arena: Arena, until_round: str | None = None) -> list[Work]:
    """The work of every round up to `until_round`, in the order in which it is done."""
    last = arena.round(until_round).key if until_round else max(arena.rounds)
    known = known_models(arena)
    works: list[Work] = []
    met: set[str] = set()  # contestants of the arenas so far: their answers and games are found
    for key in (key for key in arena.rounds if key <= last):
        fought = round_contest(arena, key, known)
        works += [*_answers(arena, fought, known), *_games(arena, fought)]
        rated = arena_contest(arena, key, known)
        works += _of_others(rated, met, _answers(arena, rated, known), _games(arena, rated))
        met.update(contestant.name for contestant in rated.contestants)
    return works


def total_of(works: list[Work]) -> dict[str, Any]:
    """Sums over the works: a sum with an unknown part is None.

    Beside the sums, `known` has those of the known parts, and `unknown` who is missing in which.
    """
    sums: dict[str, Any] = {"round": "all", "work": "", "who": ""}
    known: dict[str, float] = {}
    unknown: dict[str, list[str]] = {}
    for name in [field.name for field in fields(Work)][3:]:
        values = [(work.who, getattr(work, name)) for work in works]
        known[name] = sum(value for _, value in values if value is not None)
        missing = list(dict.fromkeys(who for who, value in values if value is None))
        if missing:
            unknown[name] = missing
        sums[name] = None if missing else known[name]
    return {**sums, "known": known, "unknown": unknown}


def round_contest(arena: Arena, key: str, known: dict[str, Model]) -> Contest:
    """The battles of a round over its slice."""
    profile = arena.profile
    prompts = _made(lambda: round_prompts(arena, key))
    contestants = _made(lambda: round_contestants(arena, key))
    return Contest(
        key,
        "responses",
        "judgments",
        prompts,
        profile.prompts.slices.rows if prompts is None else prompts.num_rows,
        contestants or group_of_round(arena, key, f"target of {key}", None, known),
        members_of_round(profile, known, arena.open_engine),
        mode=profile.battles.mode,
    )


def arena_contest(arena: Arena, key: str, known: dict[str, Model]) -> Contest:
    """The arena after a round: everybody so far meets on the test set."""
    profile = arena.profile
    prompts = _made(lambda: testset_prompts(arena.lake))
    contestants = _made(lambda: arena_contestants(arena, key))
    checkpoints = dict.fromkeys(until(arena.rounds, key))
    return Contest(
        key,
        "arena_responses",
        "arena_judgments",
        prompts,
        profile.prompts.testset.size if prompts is None else prompts.num_rows,
        contestants or group_of_arena(arena, key, checkpoints, known),
        members_of_arena(profile, known, arena.open_engine),
        profile.ratings.sampling,
    )


def _made(find: Callable[[], _Found]) -> _Found | None:
    """What a round rests on; None as long as it has not been made."""
    try:
        return find()
    except (BrokenChain, MissingPartition):
        return None


def _of_others(
    rated: Contest, met: set[str], answers: Iterator[Work], games: Iterator[Work]
) -> Iterator[Work]:
    """The works of an arena without those of contestants that met in earlier rounds of the plan."""
    for work in answers:
        yield replace(work, **_NOTHING) if work.who in met else work
    here = {contestant.name for contestant in rated.contestants}
    old = comb(len(met & here), 2) / comb(len(here), 2)
    for work in games:
        fresh = work.to_do == work.total and work.to_do and not rated.sampling
        yield _share(work, 1 - old) if fresh else work


def _share(work: Work, share: float) -> Work:
    """The part of a work that earlier rounds of the plan leave."""
    parts: dict[str, Any] = {name: getattr(work, name) for name in _NOTHING}
    left = {
        name: type(value)(round(value * share, 6))
        for name, value in parts.items()
        if value is not None
    }
    return replace(work, **left)


def _answers(arena: Arena, contest: Contest, known: dict[str, Model]) -> Iterator[Work]:
    lake, profile = arena.lake, arena.profile
    base = known.get(profile.target.model)
    models = {o.name: o.model for o in profile.opponents if not o.follows}
    for contestant in contest.contestants:
        to_do, rate = contest.count, Rate()
        if contestant.model:
            store = answering.open_store(lake, contestant, profile.seed)
            rate = measured(lake, store)
            if contest.prompts is not None:
                with lake.connect(prompts=contest.prompts) as connection:
                    to_do = answering.create_todo(connection, store, contestant, profile.seed)
        if rate.seconds is None and contestant.role == "target" and isinstance(base, Local):
            # a checkpoint that does not exist yet answers about as fast as what it is trained from
            answerer = target_contestant(profile.target, BASE, base)
            rate = measured(lake, answering.open_store(lake, answerer, profile.seed))
        limit = contestant.sampling.max_tokens * contestant.best_of
        model = models.get(contestant.name, profile.target.model)
        yield _estimated(
            profile, contest.round, contest.responses, contestant.name, contest.count, to_do, rate,
            limit, model,
        )  # fmt: skip


def _games(arena: Arena, contest: Contest) -> Iterator[Work]:
    profile, sampling = arena.profile, contest.sampling
    models = {
        settings.name: (settings.model, settings.sampling.max_tokens * settings.attempts)
        for settings in profile.single_judges
        if isinstance(settings, LLMJudge)
    }
    for member in contest.members:
        total, rate = None, Rate()
        if contest.count is not None:
            contestants, limit = len(contest.contestants), member.battles
            total = most_battles(contest.count, contestants, limit, contest.apart)
            total = 2 * (sampling.budget(total) if sampling else total)
        to_do = total
        if not isinstance(member.judge, AwaitedJudge):
            rate = measured(arena.lake, judging.open_store(arena.lake, member.judge))
            if not sampling:
                to_do = _games_to_do(arena, contest, member, total)
        model, limit = models.get(member.judge.name, (None, 0))
        yield _estimated(
            profile, contest.round, contest.judgments, member.judge.name, total, to_do, rate, limit,
            model,
        )  # fmt: skip


def _games_to_do(arena: Arena, contest: Contest, member: Member, total: int | None) -> int | None:
    """Exact where the answers exist; else all games."""
    try:
        place, seed = (contest.responses, contest.round), arena.profile.seed
        with open_draw(arena.lake, *place, seed, mode=contest.mode) as draw:
            return draw.games(member.asked, draw.battles(member.battles)).waiting()
    except MissingPartition:
        return total


def measured(lake: Lake, store: Store) -> Rate:
    """What a row of a store took on average; a row without tokens was not counted by its server."""
    with lake.connect() as connection:
        store.create_view(connection, "stored")
        return Rate(
            *connection.execute(
                """
                select avg(prompt_tokens) filter (prompt_tokens > 0),
                       avg(completion_tokens) filter (prompt_tokens > 0),
                       avg(seconds)
                from stored
                """
            ).fetchall()[0]
        )


def _estimated(
    settings: Profile,
    round_: str,
    work: str,
    who: str,
    total: int | None,
    to_do: int | None,
    rate: Rate,
    limit: int,
    model: str | None,
) -> Work:
    """Work with its estimates; without a model (a verifier, a recording) nothing is paid for."""
    if to_do is None:
        return Work(round_, work, who, total, to_do)
    if to_do == 0 or model is None:
        seconds = 0.0 if to_do == 0 else _times(to_do, rate.seconds)
        return Work(round_, work, who, total, to_do, 0, 0, 0, seconds, 0.0)
    asked, answered = _times(to_do, rate.prompt_tokens), _times(to_do, rate.completion_tokens)
    seconds, speed = _times(to_do, rate.seconds), settings.models[model].tokens_per_second
    if speed and answered is not None:
        seconds = answered / speed
    price, cost = settings.models[model].price, None
    if price and asked is not None and answered is not None:
        cost = (asked * price.prompt + answered * price.completion) / 1e6
    return Work(
        round_, work, who, total, to_do,
        None if asked is None else round(asked),
        None if answered is None else round(answered),
        to_do * limit, seconds, cost,
    )  # fmt: skip


def _times(count: int, each: float | None) -> float | None:
    return None if each is None else count * each
