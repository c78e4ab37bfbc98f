"""What a run will take before it starts: responses, games, tokens, time and cost, round by round.

Numbers of responses and games are exact. What the stores hold already is not counted again where it
can be known: answers of models that exist, games of answers that exist. Tokens, time and cost are
estimates from what the same contestant or judge took so far, or from the profile's rates. What
neither says is None; a total says what is known of it, and of whom it is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from math import comb
from pathlib import Path
from typing import Any

import pyarrow as pa

from arena_assets.config.judges import LLMJudge
from arena_assets.config.profile import Profile
from arena_assets.config.rounds import BASE, until
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.group import recording
from arena_assets.flywheel.handover import arena_contestants, round_contestants
from arena_assets.flywheel.weights import BrokenChain, known_models
from arena_assets.generation import responses as answering
from arena_assets.generation.contestants import Contestant, opponent_contestant, target_contestant
from arena_assets.judging import games as judging
from arena_assets.judging.panel import Member, deciding_members, shadow_members
from arena_assets.lake.lake import Lake, MissingPartition
from arena_assets.lake.store import Store
from arena_assets.models.model import Local, Model, Recorded

_NOTHING = {
    "to_do": 0,
    "prompt_tokens": 0,
    "completion_tokens": 0,
    "most_completion_tokens": 0,
    "seconds": 0.0,
    "cost": 0.0,
}
_NONE = Local("unknown", Path("unknown"), "unknown")


@dataclass(frozen=True)
class Work:
    """One kind of work of one contestant or judge in a round.

    `total` is all that the round needs, `to_do` what neither a store nor an earlier round of the
    plan has (at most: answers that do
    not exist yet may repeat others). Tokens, seconds and cost are those of `to_do`.
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


def plan(arena: Arena, until_round: str | None = None) -> list[Work]:
    """The work of every round up to `until_round`, in the order in which it is done."""
    last = arena.round(until_round).key if until_round else max(arena.rounds)
    known = known_models(arena)
    works: list[Work] = []
    met: set[str] = set()  # contestants of the arenas so far: their answers and games are found
    for key in (key for key in arena.rounds if key <= last):
        works += [*_round_work(arena, key, known), *_arena_work(arena, key, known, met)]
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


def _round_work(arena: Arena, key: str, known: dict[str, Model]) -> Iterator[Work]:
    settings, lake = arena.profile, arena.lake
    prompts = _prompts(lake, "slices", f"slice = '{arena.round(key).slice}'")
    count = settings.prompts.slices.rows if prompts is None else prompts.num_rows
    contestants = _contestants(arena, key, known, round_contestants)
    yield from _answers(arena, key, "responses", contestants, prompts, count, known)
    members = deciding_members(settings.judge, _judge_weights(settings, known), _no_engine)
    members += shadow_members(settings.shadow_judges, _judge_weights(settings, known), _no_engine)
    yield from _games(arena, key, "judgments", "responses", members, contestants, count)


def _arena_work(arena: Arena, key: str, known: dict[str, Model], met: set[str]) -> Iterator[Work]:
    settings, lake = arena.profile, arena.lake
    prompts = _prompts(lake, "arena_testset", "true")
    testset = settings.prompts.testset
    count = testset.clusters * testset.diverse_per_cluster + testset.hard
    count = count if prompts is None else prompts.num_rows
    contestants = _contestants(arena, key, known, arena_contestants)
    for work in _answers(arena, key, "arena_responses", contestants, prompts, count, known):
        yield replace(work, **_NOTHING) if work.who in met else work
    members = deciding_members(settings.judge, _judge_weights(settings, known), _no_engine)
    old = comb(len(met), 2) / comb(len(contestants), 2)
    for work in _games(
        arena, key, "arena_judgments", "arena_responses", members, contestants, count
    ):
        fresh = work.to_do == work.total and work.to_do and not settings.ratings.sampling
        yield _share(work, 1 - old) if fresh else work
    met.update(contestant.name for contestant in contestants)


def _share(work: Work, share: float) -> Work:
    """The part of a work that earlier rounds of the plan leave."""
    parts = {name: getattr(work, name) for name in _NOTHING}
    return replace(
        work,
        **{
            name: None if value is None else type(value)(round(value * share, 6))
            for name, value in parts.items()
        },
    )


def _answers(
    arena: Arena,
    key: str,
    work: str,
    contestants: list[Contestant],
    prompts: pa.Table | None,
    count: int | None,
    known: dict[str, Model],
) -> Iterator[Work]:
    for contestant in contestants:
        store = answering.open_store(arena.lake, contestant, arena.profile.seed)
        to_do = count
        if prompts is not None:
            with arena.lake.connect(prompts=prompts) as connection:
                answering.create_requested(connection, contestant, arena.profile.seed)
                store.create_view(connection, "stored")
                (to_do,) = connection.execute(
                    "select count(distinct response_id) from requested "
                    "where response_id not in (select response_id from stored)"
                ).fetchall()[0]
        rate = measured(arena.lake, store)
        base_model = known.get(arena.profile.target.model)
        if rate.seconds is None and contestant.role == "target" and isinstance(base_model, Local):
            # a checkpoint that does not exist yet answers about as fast as what it is trained from
            base = target_contestant(arena.profile.target, BASE, base_model)
            rate = measured(arena.lake, answering.open_store(arena.lake, base, arena.profile.seed))
        limit = 0 if isinstance(contestant.model, Recorded) else contestant.sampling.max_tokens
        model = _model_name(arena.profile, contestant)
        yield _estimated(
            arena.profile, key, work, contestant.name, count, to_do, rate,
            limit * contestant.best_of, model,
        )  # fmt: skip


def _games(
    arena: Arena,
    key: str,
    work: str,
    answers: str,
    members: list[Member],
    contestants: list[Contestant],
    count: int | None,
) -> Iterator[Work]:
    sampling = arena.profile.ratings.sampling if work == "arena_judgments" else None
    for member in members:
        judge = member.judge
        battles = None if count is None else count * comb(len(contestants), 2)
        if battles is not None and sampling:
            battles = round(sampling.share * battles)
        if battles is not None and member.battles:
            battles = min(battles, member.battles)
        total = None if battles is None else 2 * battles
        to_do = total if sampling else _games_to_do(arena, key, answers, member, total)
        store = judging.open_store(arena.lake, judge)
        rate, limit, model = measured(arena.lake, store), 0, None
        for settings in arena.profile.single_judges:
            if settings.name == judge.name and isinstance(settings, LLMJudge):
                model = settings.model
                limit = settings.sampling.max_tokens * settings.attempts
        yield _estimated(arena.profile, key, work, judge.name, total, to_do, rate, limit, model)


def _games_to_do(
    arena: Arena, key: str, answers: str, member: Member, total: int | None
) -> int | None:
    """Exact where the answers exist; else all games."""
    views = {"responses": (answers, key), "prompts": ("prompts_curated", "all")}
    try:
        with arena.lake.connect(**views) as connection:
            judging.create_answers(connection)
            battles = judging.draw_battles(connection, member.battles, arena.profile.seed)
            store = judging.open_store(arena.lake, member.judge)
            games = judging.Games(connection, battles, member.judge, store, 1, {})
            return games.waiting()
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


def _prompts(lake: Lake, table: str, where: str) -> pa.Table | None:
    """The prompts of a slice or of the test set; None before they were drawn."""
    try:
        return lake.query(
            f"select prompts.* from prompts join drawn using (prompt_id) where {where}",
            prompts=("prompts_curated", "all"),
            drawn=(table, "all"),
        )
    except MissingPartition:
        return None


def _contestants(arena: Arena, key: str, known: dict[str, Model], find) -> list[Any]:
    """Who will answer; models that do not exist yet stand in with a digest that nothing has."""
    try:
        return find(arena, key)
    except (BrokenChain, MissingPartition):
        pass
    settings = arena.profile
    names = [f"target of {key}"]
    if find is arena_contestants:
        names = [BASE, *until(arena.rounds, key)]
    found = known.get(settings.target.model)
    base = found if isinstance(found, Local) else _NONE
    target = [
        target_contestant(settings.target, name, base if name == BASE else _NONE) for name in names
    ]
    return target + [
        opponent_contestant(
            opponent,
            known.get(opponent.model, _NONE) if opponent.model else recording(opponent.recorded),
        )
        for opponent in settings.opponents
    ]


def _model_name(settings: Profile, contestant: Contestant) -> str | None:
    if isinstance(contestant.model, Recorded):
        return None
    by_name = {opponent.name: opponent.model for opponent in settings.opponents}
    return by_name.get(contestant.name, settings.target.model)


def _judge_weights(settings: Profile, known: dict[str, Model]) -> dict[str, Model]:
    return {name: known.get(name, _NONE) for name in settings.models}


def _no_engine(model: Model):
    raise AssertionError("a plan asks no model")
