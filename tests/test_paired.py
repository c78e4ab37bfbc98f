"""The paired test and the gain: literal values, properties, and how often intervals hold."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from arena_assets.ratings.battles import read_battles
from arena_assets.ratings.bradley_terry import Anchor, rate
from arena_assets.ratings.gains import gains, pooled
from arena_assets.ratings.paired import differences, paired, paired_over_seeds


def test_the_interval_is_the_jackknife_over_families_computed_by_hand():
    # families (1, 0), (-1, 1), (1, 0): means leaving one out are 1/4, 1/2, 1/4 around 1/3;
    # 2/3 of the sum of squares is 2/3 * (1/144 + 1/36 + 1/144) = 1/36, so the error is 1/6;
    # Student's t with 2 degrees of freedom has 4.302653 at 97.5 %, and 2 is beyond by 18.35 %
    found = paired([1, 0, -1, 1, 1, 0], ["a", "a", "b", "b", "c", "c"])
    assert found.difference == pytest.approx(1 / 3)
    assert found.upper - found.difference == pytest.approx(4.302653 / 6, rel=1e-6)
    assert found.difference - found.lower == pytest.approx(4.302653 / 6, rel=1e-6)
    assert found.p_value == pytest.approx(0.183503, abs=1e-6)
    assert (found.prompts, found.families, found.seeds) == (6, 3, 1)


def test_where_every_prompt_is_a_family_it_is_students_t_test():
    values = [0.4, -0.2, 0.9, 0.1, 0.3]
    error = np.std(values, ddof=1) / math.sqrt(5)
    found = paired(values, range(5))
    assert found.difference == pytest.approx(0.3)
    assert found.lower == pytest.approx(0.3 - 2.776445 * error, abs=1e-6)
    assert found.p_value == pytest.approx(ttest_1samp(values, 0).pvalue)


def test_five_families_of_five_do_not_prove_a_sweep_and_six_do():
    # as the sign test has it: 2 / 2^5 = 0.0625 and 2 / 2^6 = 0.03125
    five, six = paired([1] * 5, range(5)), paired([1] * 6, range(6))
    assert five.lower < 0 < six.lower
    assert five.difference == six.difference == 1


def test_one_family_says_nothing_of_others():
    found = paired([0.5, 0.7], ["a", "a"])
    assert (found.lower, found.upper, found.p_value) == (-math.inf, math.inf, 1.0)


def test_without_a_common_prompt_there_is_no_test():
    with pytest.raises(ValueError, match="no prompt on which both have a verdict"):
        paired([], [])


_ROWS = st.lists(
    st.tuples(st.floats(-1, 1, allow_nan=False), st.integers(0, 8)), min_size=2, max_size=40
)


@given(_ROWS)
@settings(max_examples=80, deadline=None)
def test_the_other_way_round_the_signs_change_and_nothing_else(rows):
    values, family = [v for v, _ in rows], [f for _, f in rows]
    one, two = paired(values, family), paired([-v for v in values], family)
    assert two.difference == -one.difference
    assert (two.lower, two.upper) == pytest.approx((-one.upper, -one.lower))
    assert two.p_value == pytest.approx(one.p_value)
    assert one.lower <= one.difference <= one.upper and 0 <= one.p_value <= 1


@given(st.lists(st.integers(0, 5), min_size=2, max_size=30))
@settings(max_examples=30, deadline=None)
def test_contestants_that_do_the_same_differ_by_nothing(family):
    found = paired([0.0] * len(family), family)
    assert (found.difference, found.p_value) == (0.0, 1.0)
    assert found.lower <= 0 <= found.upper


@given(_ROWS)
@settings(max_examples=40, deadline=None)
def test_a_wider_level_holds_the_narrower_one(rows):
    values, family = [v for v, _ in rows], [f for _, f in rows]
    narrow, wide = paired(values, family, 0.8), paired(values, family, 0.99)
    assert wide.lower <= narrow.lower and narrow.upper <= wide.upper


def battle(prompt, one, two, score, family=None, category=None):
    return {
        "prompt_id": prompt, "contestant_1": one, "contestant_2": two, "score": score,
        "weight": 1.0, "category": category, "family": family,
    }  # fmt: skip


BATTLES = pa.Table.from_pylist(
    [
        battle("p", "new", "old", 1.0, "f", "c"),
        battle("p", "new", "ref", 0.5, "f", "c"),
        battle("p", "old", "ref", 0.0, "f", "c"),
        battle("q", "few", "new", 1.0, "g", "d"),  # nobody else met few: no difference
        battle("r", "new", "ref", 0.0, "f", "c"),
        battle("r", "old", "ref", 1.0, "f", "c"),
    ]
)


def test_points_count_battles_of_both_against_the_same_and_their_own():
    rows = differences(BATTLES, "new", "old").to_pylist()
    # p: won against old (+1) and half a point more against ref (+0.5); r: a point less
    assert [(r["prompt_id"], r["difference"]) for r in rows] == [("p", 0.75), ("r", -1.0)]
    assert [r["family"] for r in rows] == ["f", "f"] and rows[0]["category"] == "c"
    other = differences(BATTLES, "old", "new")["difference"].to_pylist()
    assert other == [-0.75, 1.0]


def test_head_to_head_is_their_own_battles_and_score_is_the_judges():
    assert differences(BATTLES, "new", "old", "head_to_head").to_pylist() == [
        {"prompt_id": "p", "family": "f", "category": "c", "difference": 1.0}
    ]
    scored = pa.Table.from_pylist(
        [
            {"prompt_id": "p", "category": "c", "contestant_1": "new", "contestant_2": "old"}
            | {"score_1": 8.0, "score_2": 5.0},
            {"prompt_id": "p", "category": "c", "contestant_1": "new", "contestant_2": "ref"}
            | {"score_1": 7.0, "score_2": 9.0},
            {"prompt_id": "p", "category": "c", "contestant_1": "old", "contestant_2": "ref"}
            | {"score_1": 6.0, "score_2": 9.0},
        ]
    )
    (row,) = differences(scored, "new", "old", "score").to_pylist()
    assert row["difference"] == pytest.approx((3 + 1) / 2) and row["family"] == "p"


def test_seeds_spread_the_interval_and_one_seed_is_the_paired_test():
    same = {f"p{n}": (f"f{n}", v) for n, v in enumerate([0.5, 0.1, 0.3, 0.3])}
    alone = paired([v for _, v in same.values()], [f for f, _ in same.values()])
    assert paired_over_seeds([same]) == alone
    thrice = paired_over_seeds([same] * 3)
    assert thrice.lower == pytest.approx(alone.lower) and thrice.seeds == 3
    moved = [{p: (f, v + shift) for p, (f, v) in same.items()} for shift in (-0.2, 0.0, 0.2)]
    spread = paired_over_seeds(moved)
    assert spread.difference == pytest.approx(alone.difference)
    # the variance of three means that are 0.2 apart: 0.04 / 3 beside that of the families
    error = math.sqrt(0.04 / 3 + (0.02667 / 4))
    assert spread.upper - spread.difference > 2.3 * error


@pytest.mark.parametrize(("families", "shared"), [(8, 0.0), (30, 0.4)])
def test_about_95_of_100_intervals_hold_the_truth(families, shared):
    generator, hits, tries = np.random.default_rng(4), 0, 600
    for _ in range(tries):
        sizes = generator.integers(1, 5, families)
        family = np.repeat(np.arange(families), sizes)
        own = generator.normal(0, math.sqrt(1 - shared), len(family))
        common = generator.normal(0, math.sqrt(shared), families)[family]
        found = paired(0.2 + own + common, family)
        hits += found.lower <= 0.2 <= found.upper
    assert 0.92 <= hits / tries <= 0.98


# -- rating points -------------------------------------------------------------------------------


def arena_of(families, prompts, generator, strength=None):
    strength = strength or {"base": 0.0, "new": 0.8, "ref": 1.2}
    names, rows = sorted(strength), []
    for f in range(families):
        taste = dict(zip(names, generator.normal(0, 0.7, 3), strict=True))
        for p in range(prompts):
            for one, two in (("base", "new"), ("base", "ref"), ("new", "ref")):
                edge = strength[one] + taste[one] - strength[two] - taste[two]
                won = float(generator.random() < 1 / (1 + math.exp(-edge)))
                rows.append(battle(f"{f}-{p}", one, two, won, f"f{f}"))
    return pa.Table.from_pylist(rows)


def test_the_gain_is_the_difference_of_ratings_and_turns_with_its_sides():
    battles = arena_of(20, 2, np.random.default_rng(1))
    ratings = {r["contestant"]: r["rating"] for r in rate(battles, Anchor("ref", 0)).to_pylist()}
    up = pooled([gains(battles, ["new"], "base")["new"]])
    down = pooled([gains(battles, ["base"], "new")["base"]])
    assert up.difference == pytest.approx(ratings["new"] - ratings["base"])
    assert (down.difference, down.lower) == pytest.approx((-up.difference, -up.upper))
    assert (up.prompts, up.families) == (40, 20)
    assert gains(battles, ["nobody"], "base") == {} == gains(battles, ["new"], "nobody")


def test_prompts_of_one_family_are_one_witness_for_gain_and_rating():
    battles = arena_of(15, 6, np.random.default_rng(2))
    alone = battles.drop(["family"])
    anchor = Anchor("ref", 0)

    def width(rows):
        return {r["contestant"]: r["upper"] - r["lower"] for r in rate(rows, anchor).to_pylist()}

    by_family, by_prompt = width(battles), width(alone)
    assert all(by_family[name] > by_prompt[name] for name in by_family)
    one, two = (pooled([gains(rows, ["new"], "base")["new"]]) for rows in (battles, alone))
    assert one.difference == pytest.approx(two.difference)
    assert one.upper - one.lower > two.upper - two.lower


def test_a_column_prompt_family_clusters_the_battles_of_any_table():
    rows = [("p1", "f"), ("p2", "f"), ("p3", None)]
    table = pa.Table.from_pylist(
        [
            {"prompt_id": p, "prompt_family": f, "model_a": "a", "model_b": "b"}
            | {"winner": "model_a"}
            for p, f in rows
        ]
    )
    assert read_battles(table).table["family"].to_pylist() == ["f", "f", "p3"]


def test_pooled_gains_of_equal_seeds_are_as_wide_as_one_and_of_others_wider():
    battles = arena_of(25, 2, np.random.default_rng(3))
    one = gains(battles, ["new"], "base")["new"]
    alone, thrice = pooled([one]), pooled([one] * 3)
    assert (thrice.lower, thrice.upper) == pytest.approx((alone.lower, alone.upper))
    others = [
        gains(arena_of(25, 2, np.random.default_rng(3), strength), ["new"], "base")["new"]
        for strength in ({"base": 0, "new": g, "ref": 1} for g in (0.2, 0.8, 1.6))
    ]
    assert pooled(others).seeds == 3
    assert pooled(others).upper - pooled(others).lower > alone.upper - alone.lower
