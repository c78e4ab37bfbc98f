"""The recipe of a round: who fights in it, what it trains from, which rows it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import record_round
from test_assets import checkpoint_of
from test_judging import write_answers

from arena_assets.config.models import Sampling
from arena_assets.config.profile import load_profile
from arena_assets.config.rounds import rounds_in_order
from arena_assets.config.settings_files import ProfileError
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.group import group_of_arena, group_of_round
from arena_assets.flywheel.handover import parent_of, target_of
from arena_assets.flywheel.made_from import (
    MADE_FROM,
    OF_REPORTS,
    OF_ROUND,
    OF_SOURCE,
    Making,
    identity_of,
)
from arena_assets.flywheel.moment import Moment
from arena_assets.flywheel.planning import plan
from arena_assets.generation.contestants import own_samples
from arena_assets.judging.draw import open_draw
from arena_assets.lake.lake import Lake
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
            "'best-of-2' is no contestant rated after every round (valid: base, guest)",
        ),
        (
            {"opponents": opponents(joins=DPO), "ratings": {"anchor": "guest"}},
            "'guest' is no contestant rated after every round (valid: base, best-of-2)",
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


# -- who meets whom -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "on_policy", "pairs"),
    [
        ("all_pairs", None, 3),
        ("target_against_opponents", None, 2),
        ("target_against_opponents", {"samples": 4}, 6),  # each of them is the target's
    ],
)
def test_the_mode_of_battles_says_who_meets_whom_in_a_round(opened, mode, on_policy, pairs):
    changes = {"battles": {"mode": mode}, "rounds": {DPO: {"on_policy": on_policy}}}
    works = {(w.work, w.who): w for w in plan(opened(**changes), DPO) if w.round == DPO}
    assert works["judgments", "verifier"].total == 16 * pairs * 2
    assert works["arena_judgments", "verifier"].total == 20 * 10 * 2, "all pairs on the test set"


def test_opponents_do_not_meet_each_other_where_only_the_target_fights(tmp_path):
    lake = Lake(tmp_path)
    write_answers(lake, {"p": {"a": "1", "b": "2", "t": "3"}, "q": {"a": "1", "b": "2"}})
    rows = lake.read("responses", SFT).to_pylist()
    roles = {"t": "target"}
    lake.write(
        "responses", [r | {"role": roles.get(r["contestant"], r["role"])} for r in rows], SFT
    )
    for mode, expected in (
        ("all_pairs", [("p", "a", "b"), ("p", "a", "t"), ("p", "b", "t"), ("q", "a", "b")]),
        ("target_against_opponents", [("p", "a", "t"), ("p", "b", "t")]),
    ):
        with open_draw(lake, "responses", SFT, 0, mode=mode) as draw:
            assert [tuple(row.values()) for row in draw.battles(None).to_pylist()] == expected


def test_who_left_is_not_counted_among_those_who_met_before(opened):
    arena = opened(opponents=opponents(leaves=DPO))
    games = {
        w.round: w.to_do for w in plan(arena) if (w.work, w.who) == ("arena_judgments", "verifier")
    }
    # base, sft, best-of-2, guest; without the guest and with the next checkpoint; and once more
    assert games == {SFT: 20 * 6 * 2, DPO: 20 * 3 * 2, RL: 20 * 4 * 2}


# -- what is learned, and from where --------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("accumulate", ("i01.2-dpo", "i02.2-dpo", "i03.2-dpo")),
        ("this", ("i03.2-dpo",)),
        ({"last": 1}, ("i03.2-dpo",)),
        ({"last": 2}, ("i02.2-dpo", "i03.2-dpo")),
        ({"last": 9}, ("i01.2-dpo", "i02.2-dpo", "i03.2-dpo")),
    ],
)
def test_the_window_says_which_rounds_of_a_stage_are_learned(data, expected):
    paper = load_profile("profiles/paper-7b.yaml").rounds
    changed = paper["i03.2-dpo"].model_validate({**paper["i03.2-dpo"].model_dump(), "data": data})
    rounds = rounds_in_order({**paper, "i03.2-dpo": changed})
    assert rounds["i03.2-dpo"].trains_on == expected
    assert rounds["i03.3-rl"].trains_on == ("i01.3-rl", "i02.3-rl", "i03.3-rl")


def turned(arena: Arena, keys: list[str], promoted: str) -> None:
    """Rounds whose checkpoints are rated base 1000, SFT 1100, DPO 1050."""
    ratings = {"base": 1000.0, SFT: 1100.0, DPO: 1050.0}
    for key in keys:
        checkpoint_of(arena, key, key.encode())
        row = {"round": key, "lower": 0.0, "upper": 2000.0, "rank": 1, "battles": 9}
        row |= {"purpose": "select"}
        row |= dict.fromkeys(("wins", "losses", "ties"), 3)
        there = [name for name in ratings if name <= key or name == "base"]
        rows = [row | {"contestant": name, "rating": ratings[name]} for name in there]
        arena.lake.write("ratings", rows, key)
        record_round(arena, key)
        who = promoted if promoted <= key else key
        manifest = arena.checkpoints.manifest(who)
        row = {"round": key, "contestant": who, "model": "x", "model_digest": manifest.digest}
        row |= {"rating": 1.0, "lower": 0.0, "upper": 2.0, "reason": "test"}
        arena.lake.write("promotions", [row], key)
        Making(arena, ["promotions"], key).ended("promotions")


@pytest.mark.parametrize(
    ("rule", "promoted", "parent"),
    [
        ("fighter", DPO, DPO),
        ("fighter", SFT, SFT),
        ("base", DPO, "base"),
        ("best", DPO, SFT),
        ("last", SFT, DPO),
    ],
)
def test_what_a_round_trains_from(opened, rule, promoted, parent):
    arena = opened(rounds={RL: {"trains_from": rule}})
    turned(arena, [SFT, DPO], promoted)
    assert target_of(arena, RL).contestant == promoted, "who fights is another matter"
    assert parent_of(arena, RL).contestant == parent


@pytest.mark.parametrize("rule", ["fighter", "base", "best", "last"])
def test_the_first_round_trains_the_base_model_whatever_the_rule(opened, rule):
    assert parent_of(opened(rounds={SFT: {"trains_from": rule}}), SFT).contestant == "base"


def test_another_checkpoint_that_is_trained_from_makes_the_round_stale(opened):
    """Rated otherwise, another one is the best: what trains from the last one is not concerned."""
    parents = {}
    for rule in ("best", "last"):
        arena = opened(rounds={RL: {"trains_from": rule}})
        turned(arena, [SFT, DPO], DPO)
        before = identity_of(Moment(arena), "checkpoint", RL)
        rows = arena.lake.read("ratings", DPO).to_pylist()
        better = [r | {"rating": 1200.0} if r["contestant"] == DPO else r for r in rows]
        arena.lake.write("ratings", better, DPO)
        parents[rule] = identity_of(Moment(arena), "checkpoint", RL) != before
    assert parents == {"best": True, "last": False}


# -- how one round is trained ---------------------------------------------------------------------


def test_a_rounds_training_is_merged_over_the_profiles(opened):
    changes = {"sft": {"learning_rate": 5e-4}, "seed": 8}
    profile = opened(rounds={SFT: {"training": changes}}).profile
    here, elsewhere = profile.of_round(SFT), profile.of_round(DPO)
    assert (here.training.sft.learning_rate, here.training.sft.batch) == (5e-4, 8)
    assert elsewhere == profile and elsewhere.training.sft.learning_rate == 1e-3
    assert (here.training_seed, profile.training_seed) == (8, 3)
    assert here.seed == 3, "answers and slices are drawn as ever"


def test_a_training_seed_of_its_own_trains_again_and_generates_nothing(opened):
    now = Moment(opened())
    training = yaml.safe_load(now.arena.profile_path.read_text("utf-8"))["training"]
    other = Moment(opened("other", training=training | {"seed": 4}))
    again = {t for t in MADE_FROM if t not in OF_SOURCE
             for key in [SFT if t in OF_ROUND or t in OF_REPORTS else "all"]
             if identity_of(now, t, key) != identity_of(other, t, key)}  # fmt: skip
    assert again == {"checkpoint"}


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ({"sft": {"learning_rat": 1e-4}}, f"rounds.{DPO}.training: sft.learning_rat: unknown key"),
        ({"dpo": {"epochs": 0}}, f"rounds.{DPO}.training: dpo.epochs: Input should be greater"),
        ({"dpo": {"max_length": 12}}, f"rounds.{DPO}.training: training.dpo.max_length (12) can"),
        ({"dpi": {}}, f"rounds.{DPO}.training: dpi: unknown key (did you mean dpo?"),
    ],
)
def test_a_mistake_in_a_rounds_training_is_told_with_its_place(opened, training, told):
    with pytest.raises(ProfileError) as error:
        opened(rounds={DPO: {"training": training}})
    assert told in str(error.value) and "\n" not in str(error.value)
