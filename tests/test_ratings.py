"""Ratings against a plain implementation, another library, and battles with a known answer."""

import evalica
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from arena_assets.ratings.battles import BATTLES
from arena_assets.ratings.bradley_terry import (
    ELO,
    PRIOR_PRECISION,
    Anchor,
    UnratableBattles,
    count,
    fit,
    pair_table,
    rate,
)


def battles(*rows):
    """Rows of (prompt_id, contestant_1, contestant_2, share of the point for contestant_1)."""
    columns = ("prompt_id", "contestant_1", "contestant_2", "score")
    table = [dict(zip(columns, row, strict=True)) | {"weight": 1.0} for row in rows]
    return pa.Table.from_pylist(table, schema=BATTLES)


def simulated(strengths, prompts, seed=0, shared=0.0):
    """One battle of every pair on every prompt, drawn from Bradley-Terry strengths.

    With `shared` a contestant's strength varies by prompt (standard deviation on the natural
    scale), which is what makes the battles of a prompt dependent.
    """
    draw = np.random.default_rng(seed)
    size = len(strengths)
    one, two = np.triu_indices(size, 1)
    own = np.asarray(strengths) + shared * draw.standard_normal((prompts, size))
    won = draw.random((prompts, len(one))) < 1 / (1 + np.exp(own[:, two] - own[:, one]))
    names = np.array([f"c{number}" for number in range(size)])
    return pa.table(
        {
            "prompt_id": np.repeat([f"p{prompt}" for prompt in range(prompts)], len(one)),
            "contestant_1": np.tile(names[one], prompts),
            "contestant_2": np.tile(names[two], prompts),
            "score": won.astype(float).reshape(-1),
            "weight": np.ones(won.size),
            "category": pa.nulls(won.size, pa.string()),
        }
    )


@given(st.lists(st.integers(0, 40), min_size=12, max_size=12))
@settings(max_examples=60, deadline=None)
def test_the_fit_maximises_the_likelihood(numbers):
    """Newton against a general optimiser on the same penalised likelihood."""
    points = np.zeros((4, 4))
    points[~np.eye(4, dtype=bool)] = numbers

    def loss(strength):
        difference = strength[:, None] - strength[None, :]
        likelihood = (points * -np.logaddexp(0, -difference)).sum()
        return -likelihood + PRIOR_PRECISION / 2 * (strength**2).sum()

    slow = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8}).x
    fast = fit(points)
    assert abs(fast.sum()) < 1e-6
    np.testing.assert_allclose(fast, slow - slow.mean(), atol=2e-3)


def test_two_contestants_have_the_closed_form():
    """s1 - s2 = ln(wins1 / wins2) where the prior is out of the way."""
    strengths = fit(np.array([[0.0, 30], [10, 0]]), prior_precision=1e-12)
    assert strengths[0] - strengths[1] == pytest.approx(np.log(3), abs=1e-6)


def test_ratings_agree_with_evalica():
    table = simulated([1.0, 0.4, 0.0, -0.7], prompts=300)
    ours = ratings_of(rate(table, Anchor("c2", 1000), interval="sandwich"))
    frame = table.to_pandas()
    winners = [evalica.Winner.X if score == 1 else evalica.Winner.Y for score in frame.score]
    scores = evalica.bradley_terry(frame.contestant_1, frame.contestant_2, winners).scores
    theirs = np.log(scores)
    for name, rating in ours.items():
        assert rating == pytest.approx(1000 + ELO * (theirs[name] - theirs["c2"]), abs=0.2), name


def ratings_of(table):
    return {row["contestant"]: row["rating"] for row in table.to_pylist()}


def coverage(shared, prompts, arenas, interval, forget_prompts=False):
    """How often intervals of simulated arenas hold the rating that endless battles would give."""
    strengths = np.array([0.9, 0.5, 0.2, 0.0, -0.1, -0.3, -0.4, -0.8])
    limit = fit(count(simulated(strengths, 60_000, seed=1, shared=shared)).totals())
    truth = ELO * (limit - limit.mean())
    covered = []
    for arena in range(arenas):
        table = simulated(strengths, prompts, seed=100 + arena, shared=shared)
        if forget_prompts:
            rows = pa.array([str(row) for row in range(table.num_rows)])
            table = table.set_column(0, "prompt_id", rows)
        rated = rate(table, Anchor("c0", 0), 200, arena, interval).to_pylist()
        centre = np.mean([row["rating"] for row in rated])
        for row in rated:
            true = truth[int(row["contestant"][1])] + centre
            covered.append(row["lower"] <= true <= row["upper"])
    return np.mean(covered)


@pytest.mark.parametrize("interval", ["bootstrap", "sandwich"])
@pytest.mark.parametrize("shared", [0.0, 1.5], ids=["independent", "dependent"])
def test_intervals_cover_the_truth_as_often_as_they_say(interval, shared):
    found = coverage(shared, prompts=200, arenas=300, interval=interval)
    print(f"{interval}, shared {shared}: {found:.3f}")
    assert 0.93 <= found <= 0.97


def test_intervals_that_forget_the_prompts_are_too_narrow():
    """Rows drawn one by one (or squared one by one) take dependent battles for independent ones."""
    found = coverage(1.5, prompts=200, arenas=50, interval="bootstrap", forget_prompts=True)
    print(f"rows as their own prompts: {found:.3f}")
    assert found < 0.88


def test_the_anchor_holds_its_rating_and_has_an_interval():
    for interval in ("bootstrap", "sandwich"):
        table = rate(simulated([0.5, 0.0, -0.5], 80), Anchor("c1", 1100), 100, 3, interval)
        anchor = next(row for row in table.to_pylist() if row["contestant"] == "c1")
        assert anchor["rating"] == pytest.approx(1100)
        assert anchor["lower"] < 1100 < anchor["upper"]


def test_one_who_won_everything_stays_finite_and_the_counts_add_up():
    table = battles(*[(f"p{n}", "a", "b", 1.0) for n in range(20)], ("q", "b", "a", 0.5))
    first, second = rate(table, Anchor("b", 1000), 50, 0).to_pylist()
    assert (first["contestant"], first["wins"], first["losses"], first["ties"]) == ("a", 20, 0, 1)
    assert (second["wins"], second["losses"], second["ties"], second["battles"]) == (0, 20, 1, 21)
    assert 1000 < first["rating"] < 4000 and first["lower"] <= first["rating"] <= first["upper"]
    assert (first["rank"], second["rank"]) == (1, 2)


def test_overlapping_contestants_share_a_rank():
    rows = rate(simulated([0.0, 0.0, -3.0], 60), Anchor("c0", 1000), 100, 0).to_pylist()
    assert [row["rank"] for row in rows] == [1, 1, 3]


def test_the_order_of_rows_and_of_the_pair_does_not_matter_and_the_seed_does():
    table = simulated([0.5, 0.0, -0.5], 30)
    shuffled = table.take(np.random.default_rng(1).permutation(table.num_rows))
    names = ["prompt_id", "contestant_2", "contestant_1", "score", "weight", "category"]
    other_side = pa.array(1 - shuffled["score"].to_numpy())
    swapped = shuffled.set_column(3, "score", other_side).rename_columns(names)
    anchor = Anchor("c0", 1000)
    expected = rate(table, anchor, 30, 5)
    again = rate(swapped, anchor, 30, 5)
    for one, two in zip(expected.to_pylist(), again.to_pylist(), strict=True):
        assert one["contestant"] == two["contestant"]
        assert one["rating"] == pytest.approx(two["rating"])
        assert one["lower"] == pytest.approx(two["lower"])
    assert rate(table, anchor, 30, 6)["lower"] != expected["lower"]


def test_a_weight_counts_as_that_many_battles():
    weighted = battles(("p", "a", "b", 1.0), ("q", "a", "b", 0.0))
    weighted = weighted.set_column(4, "weight", pa.array([3.0, 1.0]))
    repeated = battles(*[("p", "a", "b", 1.0)] * 3, ("q", "a", "b", 0.0))
    one, two = (
        rate(table, Anchor("a", 0), interval="sandwich").to_pylist()
        for table in (weighted, repeated)
    )
    assert one[1]["rating"] == pytest.approx(two[1]["rating"])
    assert one[1]["lower"] == pytest.approx(two[1]["lower"])


def test_pairs_tell_observed_and_expected_win_rates():
    rows = pair_table(battles(("p", "a", "b", 1.0), ("q", "b", "a", 0.5))).to_pylist()
    (ab,) = [row for row in rows if row["contestant"] == "a"]
    assert (ab["opponent"], ab["points"], ab["battles"], ab["win_rate"]) == ("b", 1.5, 2, 0.75)
    assert ab["expected"] == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("p", "a", "b", 1.0), ("p", "x", "y", 1.0)], r"never met.*a, b \| x, y"),
        ([("p", "x", "y", 1.0)], r"anchor 'a' has no battles \(contestants: x, y\)"),
        ([], "no decided battles"),
    ],
)
def test_battles_without_a_common_scale_are_refused(rows, message):
    with pytest.raises(UnratableBattles, match=message):
        rate(battles(*rows), Anchor("a", 1000), 20, 0)
