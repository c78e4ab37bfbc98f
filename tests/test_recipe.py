"""The recipe of a round: who fights in it, what it trains from, which rows it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from arena_assets.config.models import Sampling
from arena_assets.config.settings_files import ProfileError
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.group import group_of_arena, group_of_round
from arena_assets.flywheel.planning import plan
from arena_assets.generation.contestants import own_samples
from arena_assets.models.engine import Request
from arena_assets.models.model import Local

SFT, DPO, RL = "i01.1-sft", "i01.2-dpo", "i01.3-rl"
FIGHTER = Local("i01.1-sft", Path(), "fighter-digest")


@pytest.fixture
def opened(tmp_path, tiny_profile):
    """The tests' arena with another profile: opened(rounds={...}, opponents=[...])."""

    def open_(name: str = "profile", **changes: Any) -> Arena:
        profile = yaml.safe_load(tiny_profile.read_text("utf-8"))
        for key, settings in changes.pop("rounds", {}).items():
            profile["rounds"].setdefault(key, {}).update(settings)
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(profile | changes), "utf-8")
        arena = Arena(str(file), str(tmp_path / "lake"))
        row = {"name": "tiny", "origin": arena.profile.models["tiny"].path, "path": str(tmp_path)}
        arena.lake.write("models", [row | {"digest": "base-digest"}])
        return arena

    return open_


def fighting(arena: Arena, key: str) -> list:
    base = Local("tiny", Path(), "base-digest")
    return group_of_round(arena, key, SFT, FIGHTER, {"tiny": base})


def meeting(arena: Arena, key: str) -> list[str]:
    base = Local("tiny", Path(), "base-digest")
    return [c.name for c in group_of_arena(arena, key, {SFT: FIGHTER}, {"tiny": base})]


# -- the target's own samples ---------------------------------------------------------------------


def test_on_policy_the_targets_own_samples_fight_and_nobody_else(opened):
    arena = opened(rounds={DPO: {"on_policy": {"samples": 3, "temperature": 0.7}}})
    group = fighting(arena, DPO)
    assert [c.name for c in group] == [f"{SFT}.sample-0{n}" for n in (1, 2, 3)]
    assert {(c.role, c.asked.digest, c.sampling.temperature) for c in group} == {
        ("target", "fighter-digest", 0.7)
    }
    assert {c.sampling.max_tokens for c in group} == {12}, "otherwise it is sampled as ever"
    assert len({c.key(arena.profile.seed) for c in group}) == 3, "none takes another's answers"
    assert [c.name for c in fighting(arena, RL)] == [SFT, "reference", "best-of-2"]
    assert meeting(arena, DPO) == ["base", SFT, "reference", "best-of-2"], "as ever on the test set"


def test_a_plan_counts_the_pairs_of_own_samples(opened):
    works = plan(opened(rounds={DPO: {"on_policy": {"samples": 4}}}), DPO)
    counted = {(w.work, w.who): w.total for w in works if w.round == DPO}
    assert counted["judgments", "verifier"] == 16 * 6 * 2
    asked = [who for work, who in counted if work == "responses"]
    assert asked == [f"target of {DPO}.sample-0{n}" for n in (1, 2, 3, 4)]


def test_more_own_samples_leave_the_answers_of_the_first_ones(opened):
    settings = opened(rounds={DPO: {"on_policy": {"samples": 2}}}).profile
    more = settings.rounds[DPO].on_policy.model_copy(update={"samples": 5})
    few = own_samples(settings.target, SFT, FIGHTER, settings.rounds[DPO].on_policy, 3)
    many = own_samples(settings.target, SFT, FIGHTER, more, 3)
    assert [c.key(3) for c in few] == [c.key(3) for c in many][:2]


@pytest.mark.slow
def test_on_a_cpu_each_own_sample_is_drawn_by_its_seed_also_in_a_new_process(opened, tiny_model):
    arena = opened()
    engine = arena.open_engine(Local("tiny", tiny_model, "tiny"))
    asked = [Request("p", [{"role": "user", "content": "Name a river."}])]

    def said(seed: int) -> str:
        drawn = Sampling(temperature=1.0, max_tokens=12, seed=seed)
        return engine.chat(asked, drawn)[0][0].text

    first, second = said(4), said(5)
    assert first != second and said(4) == first


# -- opponents ------------------------------------------------------------------------------------


def opponents(**more: Any) -> list[dict[str, Any]]:
    drawn = {"model": "tiny", "sampling": {"temperature": 1.0, "max_tokens": 12}}
    return [drawn | {"name": "best-of-2", "best_of": 2}, drawn | {"name": "guest"} | more]


def test_an_opponent_joins_and_leaves_with_a_round(opened):
    arena = opened(opponents=opponents(joins=DPO, leaves=RL))
    for key, there in ((SFT, False), (DPO, True), (RL, False)):
        assert ("guest" in [c.name for c in fighting(arena, key)]) is there
        assert ("guest" in meeting(arena, key)) is there


def test_an_opponent_may_follow_the_target_and_is_not_on_the_test_set(opened):
    arena = opened(opponents=[*opponents(), opponents(name="mirror", model="target")[1]])
    mirror = fighting(arena, DPO)[-1]
    assert (mirror.name, mirror.role, mirror.asked.digest) == (
        "mirror", "opponent", "fighter-digest",
    )  # fmt: skip
    assert "mirror" not in meeting(arena, DPO)
    assert all(w.cost is None or w.cost == 0 for w in plan(arena, SFT)), "it can be planned with"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"rounds": {SFT: {"on_policy": {"samples": 2}}}},
            f"rounds.{SFT}.on_policy: SFT learns where the target lost to others",
        ),
        (
            {"rounds": {DPO: {"on_policy": {"samples": 1}}}},
            f"rounds.{DPO}.on_policy.samples: Input should be greater than or equal to 2",
        ),
        ({"opponents": opponents(joins="i09.1-sft")}, "opponents.guest.joins: 'i09.1-sft' is no"),
        ({"opponents": opponents(joins=RL, leaves=DPO)}, "before it joins with i01.3-rl"),
        (
            {"opponents": opponents()[1:], "ratings": {"anchor": "best-of-2"}},
            "'best-of-2' is no contestant that is rated after every round (valid: base, guest)",
        ),
        (
            {"opponents": opponents(joins=DPO), "ratings": {"anchor": "guest"}},
            "'guest' is no contestant that is rated after every round (valid: base, best-of-2)",
        ),
        (
            {"opponents": opponents(joins=DPO)[1:], "ratings": {"anchor": "base"}},
            f"rounds.{SFT}: no opponent fights in it",
        ),
        ({"models": {"target": {"path": "x"}}, "target": {"model": "target"}}, "models.target: "),
    ],
)  # fmt: skip
def test_a_group_that_cannot_be_is_told_in_one_sentence(opened, changes, told):
    with pytest.raises(ProfileError) as error:
        opened(**changes)
    assert told in str(error.value) and "\n" not in str(error.value)
