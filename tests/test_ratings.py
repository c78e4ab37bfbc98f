"""Ratings against a plain implementation, another library, and battles with a known answer."""

import evalica
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from arena_assets.ratings.bradley_terry import (
    ELO,
    PRIOR_PRECISION,
    Anchor,
    UnratableBattles,
    fit,
    rate,
)


def battles(*rows):
    """Rows of (prompt_id, contestant_1, contestant_2, winner)."""
    columns = ("prompt_id", "contestant_1", "contestant_2", "winner")
    return pa.table(
        {
            name: pa.array(values, pa.string())
            for name, values in zip(columns, zip(*rows, strict=True), strict=True)
        }
    )


def simulated(strengths, prompts, seed=0):
    """One battle of every pair on every prompt, drawn from Bradley-Terry strengths."""
    draw = np.random.default_rng(seed)
    names = [f"c{number}" for number in range(len(strengths))]
    rows = []
    for prompt in range(prompts):
        for i in range(len(names)):
            for j in range(i + 1, len(names)):
                first_wins = draw.random() < 1 / (1 + np.exp(strengths[j] - strengths[i]))
                rows.append((f"p{prompt}", names[i], names[j], names[i if first_wins else j]))
    return battles(*rows)


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
    ours = {
        row["contestant"]: row["rating"]
        for row in rate(table, Anchor("c2", 1000), 200, 1).to_pylist()
    }
    frame = table.to_pandas()
    outcome = pd.Series(
        [
            evalica.Winner.X if w == x else evalica.Winner.Y
            for x, w in zip(frame.contestant_1, frame.winner, strict=True)
        ]
    )
    theirs = np.log(evalica.bradley_terry(frame.contestant_1, frame.contestant_2, outcome).scores)
    for name in ours:
        expected = 1000 + ELO * (theirs[name] - theirs["c2"])
        assert ours[name] == pytest.approx(expected, abs=6), name


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """150 arenas with known strengths: a 95 % interval misses the truth as rarely as it should."""
    truth = np.array([0.8, 0.2, -0.3, -0.7])
    truth = ELO * (truth - truth.mean())
    covered = total = 0
    for arena in range(150):
        rows = rate(simulated(truth / ELO, 60, seed=arena), Anchor("c0", 0), 100, arena).to_pylist()
        centre = np.mean([row["rating"] for row in rows])
        for row in rows:
            true = truth[int(row["contestant"][1])] + centre
            covered += row["lower"] <= true <= row["upper"]
            total += 1
    assert 0.90 <= covered / total <= 0.98


def test_the_anchor_holds_its_rating_and_has_an_interval():
    rows = rate(simulated([0.5, 0.0, -0.5], 80), Anchor("c1", 1100), 100, 3).to_pylist()
    anchor = next(row for row in rows if row["contestant"] == "c1")
    assert anchor["rating"] == pytest.approx(1100)
    assert anchor["lower"] < 1100 < anchor["upper"]


def test_one_who_won_everything_stays_finite_and_the_counts_add_up():
    table = battles(*[(f"p{n}", "a", "b", "a") for n in range(20)], ("q", "b", "a", None))
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
    swapped = shuffled.rename_columns(["prompt_id", "contestant_2", "contestant_1", "winner"])
    anchor = Anchor("c0", 1000)
    expected = rate(table, anchor, 30, 5)
    again = rate(swapped, anchor, 30, 5)
    for one, two in zip(expected.to_pylist(), again.to_pylist(), strict=True):
        assert one["contestant"] == two["contestant"]
        assert one["rating"] == pytest.approx(two["rating"]) and one["lower"] == pytest.approx(
            two["lower"]
        )
    assert rate(table, anchor, 30, 6)["lower"] != expected["lower"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("p", "a", "b", "c")], "'c' won a battle of 'a' and 'b'"),
        ([("p", "a", "b", "a"), ("p", "x", "y", "x")], r"never met.*a, b \| x, y"),
        ([("p", "x", "y", "x")], r"anchor 'a' has no battles \(contestants: x, y\)"),
    ],
)
def test_battles_without_a_common_scale_are_refused(rows, message):
    with pytest.raises(UnratableBattles, match=message):
        rate(battles(*rows), Anchor("a", 1000), 20, 0)


def test_no_battles_are_refused():
    empty = battles(("p", "a", "b", "a")).slice(0, 0)
    with pytest.raises(UnratableBattles, match="no decided battles"):
        rate(empty, Anchor("a", 1000), 20, 0)
