"""Rules that need a test, guards, what people decide, and the purposes of prompts in a round."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
import yaml
from conftest import record_round
from test_assets import checkpoint_of
from typer.testing import CliRunner

from arena_assets.checks.rounds import round_suites
from arena_assets.cli.main import app
from arena_assets.config.profile import load_profile
from arena_assets.config.promotion import Promotion
from arena_assets.config.settings_files import ProfileError
from arena_assets.flywheel import seeds
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.decisions import BrokenDecisions, decide, decision_on, decisions
from arena_assets.flywheel.handover import target_of
from arena_assets.flywheel.made_from import Making
from arena_assets.flywheel.promotion import Choice, guarded, promotion_of, shown
from arena_assets.flywheel.rated import arena_battles, ratings_of
from arena_assets.flywheel.seed_gains import NoGain, gained
from arena_assets.flywheel.state import outdated, states
from arena_assets.flywheel.weights import BrokenChain
from arena_assets.lake.lake import Lake, write_atomically
from arena_assets.lake.tables import ARENA_TESTSET
from arena_assets.ratings.paired import Paired

FIRST, SECOND = "i01.1-sft", "i01.2-dpo"
NAMES = ("base", FIRST, "best-of-2")


def seen(lower, difference, upper):
    return Paired(difference, lower, upper, 0.04, 40, 9)


@pytest.mark.parametrize(
    ("rule", "test", "chosen", "said"),
    [
        ("better", seen(0.01, 0.2, 0.4), "new", "new is shown to be better than old: +0.200"),
        ("better", seen(-0.01, 0.2, 0.4), "old", "new is not shown to be better than old"),
        ("better", seen(0.0, 0.2, 0.4), "old", "old fights on"),
        ("not_worse", seen(-0.04, 0.0, 0.1), "new", "not worse than old: +0.000 of the points"),
        ("not_worse", seen(-0.06, 0.2, 0.4), "old", "and may lose 0.05"),
    ],
)
def test_the_lower_bound_of_the_paired_interval_decides(rule, test, chosen, said):
    choice = shown(test, "new", "old", Promotion(rule=rule))
    assert choice.contestant == chosen and said in choice.reason
    assert "paired on 40 prompts of 9 families" in choice.reason


def by_category(**found):
    rows = [{"category": c, "difference": v} for c, values in found.items() for v in values]
    return pa.Table.from_pylist(rows)


def test_a_guard_keeps_the_fighter_where_a_category_loses_too_much():
    settings = Promotion(guard={"category_drop": 0.2, "category_prompts": 2})
    choice = Choice("new", "the best")
    lost = guarded(choice, "old", by_category(sums=[-0.5, -0.1], lists=[1, 1], few=[-1]), settings)
    assert lost.contestant == "old"
    assert "new loses 0.300 of the points in sums (2 prompts) and may lose 0.2" in lost.reason
    assert "1 categories have fewer than 2 prompts" in lost.reason
    kept = guarded(choice, "old", by_category(sums=[-0.3, -0.1], lists=[1, 1]), settings)
    assert kept.contestant == "new" and kept.reason.startswith("the best; no category loses more")
    assert guarded(choice, "new", by_category(sums=[-1, -1]), settings) is choice, "nothing changes"


def test_a_word_is_a_rule_and_an_unknown_one_is_told(tmp_path, tiny_profile):
    assert Promotion.model_validate("latest") == Promotion(rule="latest")
    profile = yaml.safe_load(tiny_profile.read_text("utf-8")) | {"promotion": "sometimes"}
    (tmp_path / "arena.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    with pytest.raises(ProfileError, match=r"promotion.*best.*better"):
        load_profile(tmp_path / "arena.yaml")


# -- a round on a test set that is split -----------------------------------------------------------


def prepared(tmp_path, tiny_profile, promotion, better=FIRST):
    """An arena whose first round was fought on a split test set; `better` wins what selects."""
    profile = yaml.safe_load(tiny_profile.read_text("utf-8")) | {"promotion": promotion}
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "arena.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    arena = Arena(str(tmp_path / "arena.yaml"), str(tmp_path / "lake"))
    row = {"name": "tiny", "origin": arena.profile.models["tiny"].path}
    (tmp_path / "base").mkdir()
    arena.lake.write("models", [row | {"path": str(tmp_path / "base"), "digest": "base-digest"}])
    purposes = ["select"] * 24 + ["report"] * 24 + ["held_out"] * 12
    testset = [
        {"prompt_id": f"p{n:02d}", "part": "hard", "cluster": 0, "category": f"c{n % 3}"}
        | {"family": f"f{n // 2}", "purpose": purpose, "version": "v001", "turns": 1}
        for n, purpose in enumerate(purposes)
    ]
    arena.lake.write("testset_versions", [], "v001")
    arena.lake.write("arena_testset", pa.Table.from_pylist(testset, schema=ARENA_TESTSET.schema))
    fought = []
    for n, purpose in enumerate(purposes):
        for one, two in (("base", "best-of-2"), ("base", FIRST), ("best-of-2", FIRST)):
            # by the prompts that report it is the other way round
            first_wins = better == FIRST if purpose == "select" else better != FIRST
            winner = FIRST if first_wins else ("base" if one == "base" else two)
            winner = winner if winner in (one, two) and n % 6 else one
            fought.append(
                {"prompt_id": f"p{n:02d}", "contestant_1": one, "contestant_2": two}
                | {"status": "decided", "winner": winner, "role": "deciding"}
                | {"score_1": 9.0 if winner == one else 2.0}
                | {"score_2": 9.0 if winner == two else 2.0}
            )
    table = pa.Table.from_pylist(fought)
    write_atomically(table.to_reader(), arena.lake.path("arena_battles", FIRST))
    arena.lake.write("ratings", ratings_of(arena, FIRST, print), FIRST)
    checkpoint_of(arena, FIRST)
    record_round(arena, FIRST)
    return arena


def promote(arena):
    row = promotion_of(arena, FIRST)
    arena.lake.write("promotions", [row], FIRST)
    Making(arena, ["promotions"], FIRST).ended("promotions")
    return row


def test_who_wins_what_selects_is_promoted_and_the_gain_is_told_by_what_reports(
    tmp_path, tiny_profile
):
    arena = prepared(tmp_path, tiny_profile, "best")
    rows = arena.lake.read("ratings", FIRST).to_pylist()
    assert {row["purpose"] for row in rows} == {"select", "report", "held_out"}
    assert len(rows) == 9, "everybody by every purpose"
    row = promote(arena)
    assert row["contestant"] == FIRST and row["waiting"] is None
    assert row["gain"] < 0 and row["gain_lower"] < row["gain"] < row["gain_upper"]
    assert row["held_out_gain"] < 0
    selecting = next(r for r in rows if (r["contestant"], r["purpose"]) == (FIRST, "select"))
    assert row["rating"] == selecting["rating"] and selecting["gain"] > 0
    families = arena_battles(arena.lake, FIRST, ["report"]).table["family"].to_pylist()
    assert len(set(families)) == 12


def test_a_promoted_model_that_forgot_is_warned_of(tmp_path, tiny_profile):
    (suite,) = [s for s in round_suites(load_profile(tiny_profile)) if s.table == "promotions"]
    (rule,) = [e for e in suite.expectations if e["name"] == "nothing_forgotten"]
    assert rule["kwargs"] == {"column": "held_out_gain", "min_value": -50.0}
    assert rule["severity"] == "warning"


@pytest.mark.parametrize("rule", ["better", "not_worse"])
def test_the_paired_rules_read_the_prompts_that_select(tmp_path, tiny_profile, rule):
    better = promote(prepared(tmp_path / "a", tiny_profile, {"rule": rule}))
    assert better["contestant"] == FIRST
    assert "paired on 24 prompts of 12 families" in better["reason"]
    worse = promote(prepared(tmp_path / "b", tiny_profile, {"rule": rule}, better="base"))
    assert worse["contestant"] == "base" and worse["gain"] is None
    assert worse["reason"].startswith(f"base fights on, {FIRST} is not shown to be")


def test_a_promotion_waits_for_a_person_and_goes_on_when_one_approves(tmp_path, tiny_profile):
    arena = prepared(tmp_path, tiny_profile, {"approval": "manual"})
    row = promote(arena)
    assert (row["contestant"], row["waiting"]) == (FIRST, "approval")
    assert states(arena, FIRST)[FIRST].name == "waiting for approval"
    with pytest.raises(BrokenChain, match=f"{FIRST} waits for a person's approval of {FIRST}"):
        target_of(arena, SECOND)
    decide(arena.lake, "approve", FIRST, FIRST, digest="another")
    assert outdated(arena, ["promotions"], FIRST) == ["promotions"]
    assert promote(arena)["waiting"] == "approval", "other weights were approved"
    decide(arena.lake, "approve", FIRST, FIRST, digest=row["model_digest"], who="ann", reason="ok")
    assert outdated(arena, ["promotions", "ratings"], FIRST) == ["promotions"]
    approved = promote(arena)
    assert approved["waiting"] is None and "; approved by ann on 2" in approved["reason"]
    assert states(arena, FIRST)[FIRST].name == "done"
    assert target_of(arena, SECOND).contestant == FIRST
    decide(arena.lake, "withdraw", FIRST)
    assert promote(arena)["waiting"] == "approval"


def test_the_fighter_needs_no_approval(tmp_path, tiny_profile):
    arena = prepared(tmp_path, tiny_profile, {"approval": "manual"}, better="base")
    row = promote(arena)
    assert (row["contestant"], row["waiting"]) == ("base", None)


@pytest.mark.parametrize(
    ("kind", "said"), [("pin", "pinned to base by"), ("rollback", "rolled back to base by")]
)
def test_a_person_may_name_who_fights_next(tmp_path, tiny_profile, kind, said):
    arena = prepared(tmp_path, tiny_profile, {"approval": "manual"})
    decide(arena.lake, kind, FIRST, "base", who="bob", reason="it repeats itself")
    row = promote(arena)
    assert (row["contestant"], row["waiting"]) == ("base", None)
    assert said in row["reason"] and row["reason"].endswith(": it repeats itself")


def test_who_was_named_has_to_be_there(tmp_path, tiny_profile):
    arena = prepared(tmp_path, tiny_profile, "best")
    decide(arena.lake, "pin", FIRST, "i09.1-sft", who="bob")
    with pytest.raises(BrokenChain, match=r"i09.1-sft.*is not among them"):
        promotion_of(arena, FIRST)


def test_decisions_are_lines_that_stay_and_a_broken_one_is_named(tmp_path):
    lake = Lake(tmp_path)
    assert decisions(lake) == [] and decision_on(lake, FIRST) is None
    for kind, who in (("approve", "ann"), ("pin", "bob\u2028x"), ("withdraw", "ann")):
        decide(lake, kind, FIRST, "base", who=who, reason="a\nb")
    assert [d.kind for d in decisions(lake)] == ["approve", "pin", "withdraw"]
    assert decision_on(lake, FIRST) is None and decision_on(lake, SECOND) is None
    file = tmp_path / "decisions.jsonl"
    assert [json.loads(line)["who"] for line in file.read_text("utf-8").split("\n")[:-1]][1][
        :3
    ] == "bob"
    file.write_text(file.read_text("utf-8") + '{"kind": "pinn"}\n', "utf-8")
    with pytest.raises(BrokenDecisions, match=r"decisions.jsonl, line 4: kind: "):
        decisions(lake)


# -- seeds of training -----------------------------------------------------------------------------


def test_another_seed_of_training_has_a_lake_beside_it_with_the_same_prompts_and_stores(
    tmp_path, tiny_profile, monkeypatch
):
    lake = Lake(tmp_path / "lake")
    lake.write("arena_testset", [])
    lake.record("arena_testset", "all", "something")
    lake.write("ratings", [], FIRST)
    arena = Arena(tiny_profile, tmp_path / "lake", training_seed=5)
    assert arena.lake.root == tmp_path / "lake-seed-5" and arena.profile.training_seed == 5
    assert arena.profile.seed == 3, "what is drawn stays"
    seeds.share(lake, arena.lake, {"arena_testset", "slices"})
    assert arena.lake.digest("arena_testset") == lake.digest("arena_testset")
    assert arena.made_from("arena_testset", "all") == "something"
    assert not arena.lake.exists("ratings", FIRST), "rounds are its own"
    (lake.root / "store" / "paid").write_text("once")
    assert (arena.lake.root / "store" / "paid").read_text() == "once"
    seeds.share(lake, arena.lake, {"arena_testset"})  # once more changes nothing
    assert seeds.lakes_of_seeds(lake.root) == [lake.root, arena.lake.root]
    monkeypatch.setenv(seeds.VARIABLE, "five")
    with pytest.raises(seeds.BadSeed, match="ARENA_TRAINING_SEED: 'five' is no whole number"):
        seeds.chosen_seed()


@pytest.mark.parametrize("seed", [None, 5])
def test_a_run_opens_the_arena_with_the_seed_that_it_was_given(seed, tmp_path, tiny_profile):
    from dagster import build_resources

    from arena_assets.assets.resource import resource_of

    given = Arena(tiny_profile, tmp_path / "lake", training_seed=seed)
    with build_resources({"arena": resource_of(given)}) as resources:
        opened = resources.arena
    assert opened.profile.training_seed == (seed or 3)
    assert opened.lake.root == given.lake.root
    assert (opened.shares_with is None) == (seed is None)


def test_gains_are_pooled_over_lakes_of_one_test_set(tmp_path, tiny_profile):
    lakes = []
    for name in ("a", "b"):
        arena = prepared(tmp_path / name, tiny_profile, "best")
        promote(arena)
        lakes.append(arena.lake.root)
    found = gained(lakes, "promoted", "base", None, "points", ["select"])
    assert [one.name for one in found] == ["lake", "lake", "all"]
    assert found[2].points.seeds == 2 == found[2].share.seeds
    assert found[2].points.difference == pytest.approx(found[0].points.difference)
    assert found[0].points.difference > 0 and found[0].share.lower > 0
    best = gained(lakes[:1], "i01", "base", FIRST, "head_to_head", ["report"])
    assert [one.of for one in best] == [FIRST] and best[0].share.difference < 0
    with pytest.raises(NoGain, match=r"'i07' is no contestant after i01.1-sft .there: "):
        gained(lakes, "i07", "base", None, "points", ["select"])
    Lake(lakes[1]).write("arena_testset", [])
    with pytest.raises(NoGain, match="has another test set"):
        gained(lakes, "promoted", "base", None, "points", ["select"])


def test_the_leaderboard_and_the_gain_say_on_which_prompts(tmp_path, tiny_profile, monkeypatch):
    arena = prepared(tmp_path, tiny_profile, "best", better="base")
    row = promote(arena)
    assert row["contestant"] == "base"
    decide(arena.lake, "pin", FIRST, FIRST, who="ann")
    promote(arena)
    rated = [r for r in arena.lake.read("ratings", FIRST).to_pylist() if r["purpose"] == "report"]
    board = pa.Table.from_pylist([r | {"points": 0.5, "mean_score": 5.0} for r in rated])
    write_atomically(board.to_reader(), arena.lake.path("leaderboard", FIRST))
    monkeypatch.setenv("ARENA_PROFILE", str(tmp_path / "arena.yaml"))
    monkeypatch.setenv("ARENA_LAKE", str(arena.lake.root))
    said = CliRunner().invoke(app, ["leaderboard"])
    assert said.exit_code == 0, said.output
    assert f"promoted: {FIRST}, +" in said.output
    assert "over the base model on prompts that did not select it; on what is" in said.output
    told = CliRunner().invoke(app, ["gain", "--format", "json"])
    (one,) = json.loads(told.output)["gains"]
    assert one["of"] == FIRST and one["gain"] == pytest.approx(promotion_of(arena, FIRST)["gain"])
    assert one["families"] == 12 and one["prompts"] == 24
    wrong = CliRunner().invoke(app, ["gain", "--measure", "luck"])
    assert wrong.exit_code == 1 and "--measure: 'luck' is none of points" in wrong.output
