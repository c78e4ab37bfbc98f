"""A plan counts with what later makes the round: the same group, requests, battles and games."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_assets.config.ratings import ActiveSampling
from arena_assets.flywheel import handover
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.group import group_of_arena, group_of_round
from arena_assets.flywheel.planning import plan, round_contest
from arena_assets.generation.responses import Setting, respond
from arena_assets.judging.draw import most_battles, open_draw
from arena_assets.judging.games import AwaitedJudge
from arena_assets.judging.judges import Verifier
from arena_assets.judging.panel import judge_round, members_of_round
from arena_assets.lake.lake import Lake
from arena_assets.lake.tables import PROMPTS
from arena_assets.models.engine import Completion
from arena_assets.models.model import Local

FIRST, SECOND = "i01.1-sft", "i01.2-dpo"
PROMPT = {"source": "s", "constraints": '[{"type": "no_commas"}]', "category": "c"}


class Echo:
    """An engine that repeats what it is asked, with its name and how it is sampled."""

    def __init__(self, name):
        self.name = name

    def chat(self, requests, sampling, samples=1, json_schema=None):
        return [
            [
                Completion(
                    f"{self.name} {sampling.temperature} {r.messages[-1]['content']}", "stop"
                )
                for _ in range(samples)
            ]
            for r in requests
        ]


@pytest.fixture
def arena(tmp_path, tiny_profile) -> Arena:
    """The tests' arena with the prompts of its first slice, and no model or round made yet."""
    arena = Arena(str(tiny_profile), str(tmp_path / "lake"))
    recorded = [f"seed-{n:04d}" for n in range(16)]
    prompts = [
        PROMPT | {"prompt_id": name, "messages": [{"role": "user", "content": name}]}
        for name in recorded
    ]
    arena.lake.write("prompts_curated", pa.Table.from_pylist(prompts, schema=PROMPTS.schema))
    arena.lake.write("slices", [{"prompt_id": name, "slice": "D1"} for name in recorded])
    return arena


def of_round(works, work):
    return {w.who: (w.total, w.to_do) for w in works if (w.round, w.work) == (FIRST, work)}


def test_what_is_not_there_yet_has_no_model_and_no_judge(arena):
    for group in (
        group_of_round(arena, "i01.2-dpo", "target of i01.2-dpo", None, {}),
        group_of_arena(arena, FIRST, {FIRST: None}, {}),
    ):
        there = {contestant.name for contestant in group if contestant.model}
        assert there == {"reference"}, "its answers are in a file"
        with pytest.raises(AssertionError, match="has no model yet"):
            group[0].key(0)
    members = members_of_round(arena.profile, {}, arena.open_engine)
    assert [type(member.judge) for member in members] == [Verifier, AwaitedJudge]
    contest = round_contest(arena, SECOND, {})
    assert [c.name for c in contest.contestants] == [
        "target of i01.2-dpo",
        "reference",
        "best-of-2",
    ]


@pytest.mark.slow
def test_a_round_has_no_more_to_do_once_what_was_planned_is_made(arena, monkeypatch, tmp_path):
    base = Local("tiny", tmp_path, "digest")
    known = {"tiny": base}
    group = group_of_round(arena, FIRST, "base", base, known)
    for name, found in (("known_models", known), ("round_contestants", group)):
        module = "arena_assets.flywheel.planning"
        monkeypatch.setattr(f"{module}.{name}", lambda *_, found=found: found)
    planned = plan(arena, FIRST)
    assert of_round(planned, "responses") == dict.fromkeys(
        ("base", "reference", "best-of-2"), (16, 16)
    )
    prompts = round_contest(arena, FIRST, known).prompts
    setting = Setting(lambda model: Echo(model.name), arena.profile.seed, 4, print)
    respond(arena.lake, "responses", FIRST, prompts, group, setting)
    assert of_round(plan(arena, FIRST), "responses") == dict.fromkeys(
        ("base", "reference", "best-of-2"), (16, 0)
    )
    games = of_round(plan(arena, FIRST), "judgments")
    assert games == {"verifier": (96, 96), "tiny-judge": (8, 8)} == of_round(planned, "judgments")
    verifier = [m for m in round_contest(arena, FIRST, known).members if m.seat.role == "deciding"]
    judged = judge_round(
        arena.lake, "judgments", "responses", FIRST, verifier, arena.profile, print
    )
    assert judged == {"verifier": 96}
    games = of_round(plan(arena, FIRST), "judgments")
    assert games == {"verifier": (96, 0), "tiny-judge": (8, 8)}


@given(st.integers(1, 6), st.integers(2, 5), st.none() | st.integers(1, 40), st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_a_plan_foretells_what_is_drawn_where_everybody_answers(
    tmp_path_factory, prompts, contestants, limit, seed
):
    lake = Lake(tmp_path_factory.mktemp("drawn"))
    names = [f"c{n}" for n in range(contestants)]
    row = {"round": FIRST, "role": "opponent", "status": "ok", "turns": ["text"]}
    row |= dict.fromkeys(("model", "system_prompt", "sampling", "text", "finish_reason"), "text")
    row |= dict.fromkeys(("prompt_tokens", "completion_tokens", "sample"), 0)
    ids = [f"p{n}" for n in range(prompts)]
    lake.write(
        "responses",
        [
            row | {"prompt_id": p, "contestant": c, "response_id": p + c, "model_digest": c}
            for p in ids
            for c in names
        ],
        FIRST,
    )
    lake.write("prompts_curated", [PROMPT | {"prompt_id": p, "messages": []} for p in ids])
    with open_draw(lake, "responses", FIRST, seed) as draw:
        battles = draw.battles(limit)
        assert battles.num_rows == most_battles(prompts, contestants, limit)
        games = draw.games(Verifier("v"), battles)
        assert games.waiting() <= 2 * battles.num_rows, "answers of the same words share a game"


@given(st.floats(0.01, 1.0), st.integers(0, 500))
@settings(max_examples=50, deadline=None)
def test_a_share_of_the_battles_is_counted_one_way(share, battles):
    assert ActiveSampling(share=share).budget(battles) == round(share * battles)


def test_a_plan_asks_for_the_target_once_a_round(arena, monkeypatch):
    asked = []
    found = handover.target_of
    monkeypatch.setattr(
        handover, "target_of", lambda arena, key: (asked.append(key), found(arena, key))[1]
    )
    plan(arena)
    assert asked == list(arena.rounds)
