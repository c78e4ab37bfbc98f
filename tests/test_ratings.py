"""Ratings against a plain implementation, another library, and battles with a known answer."""

import evalica
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from arena_assets.ratings.battles import BATTLES
from arena_assets.ratings.bradley_terry import ELO, Anchor, Intervals, pair_table, rate
from arena_assets.ratings.comparisons import UnratableBattles, design_of
from arena_assets.ratings.fitting import maximum_likelihood, penalised


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


ONE, TWO = np.triu_indices(4, 1)
ALL_PAIRS = design_of(ONE, TWO, 4)


def likelihood(strength, won, lost):
    difference = strength[ONE] - strength[TWO]
    return -(won * np.logaddexp(0, -difference) + lost * np.logaddexp(0, difference)).sum()


@given(st.lists(st.integers(1, 40), min_size=12, max_size=12))
@settings(max_examples=60, deadline=None)
def test_the_fit_maximises_the_likelihood(numbers):
    """Newton against a general optimiser."""
    won, lost = np.array(numbers[:6]), np.array(numbers[6:])
    slow = minimize(lambda s: -likelihood(s, won, lost), np.zeros(4), options={"gtol": 1e-8}).x
    fast = maximum_likelihood(ALL_PAIRS, 4, won, lost)
    assert abs(fast.sum()) < 1e-6
    np.testing.assert_allclose(fast, slow - slow.mean(), atol=2e-3)


@pytest.mark.slow
@given(st.lists(st.integers(0, 20), min_size=12, max_size=12))
@settings(max_examples=60, deadline=None)
def test_firths_fit_maximises_the_likelihood_times_jeffreys_prior(numbers):
    won, lost = np.array(numbers[:6]) + 0.0, np.array(numbers[6:]) + 0.0
    if not (won + lost).all():
        won = won + 1  # so that all have met

    def loss(strength):
        chance = 1 / (1 + np.exp(strength[TWO] - strength[ONE]))
        weight = (won + lost) * chance * (1 - chance)
        information = (ALL_PAIRS.T @ (ALL_PAIRS * weight[:, None])).toarray()[1:, 1:]
        prior = np.linalg.slogdet(information).logabsdet / 2
        return -likelihood(strength, won, lost) - prior

    slow = minimize(loss, np.zeros(4), options={"gtol": 1e-7}).x
    fast = penalised(ALL_PAIRS, 4, won, lost)
    np.testing.assert_allclose(fast.parameters, slow - slow.mean(), atol=5e-3)
    assert fast.pseudo.sum() == pytest.approx(3), "as many as there are free parameters"


def test_two_contestants_have_the_closed_forms():
    """ln(wins1 / wins2) by maximum likelihood, half a win more for each by Firth's."""
    design = design_of(np.array([0]), np.array([1]), 2)
    strengths = maximum_likelihood(design, 2, np.array([30.0]), np.array([10.0]))
    assert strengths[0] - strengths[1] == pytest.approx(np.log(3))
    assert maximum_likelihood(design, 2, np.array([30.0]), np.array([0.0])) is None
    strengths = penalised(design, 2, np.array([30.0]), np.array([0.0])).parameters
    assert strengths[0] - strengths[1] == pytest.approx(np.log(61))


def test_ratings_agree_with_evalica():
    table = simulated([1.0, 0.4, 0.0, -0.7], prompts=300)
    ours = ratings_of(rate(table, Anchor("c2", 1000)))
    frame = table.to_pandas()
    winners = [evalica.Winner.X if score == 1 else evalica.Winner.Y for score in frame.score]
    scores = evalica.bradley_terry(frame.contestant_1, frame.contestant_2, winners).scores
    theirs = np.log(scores)
    for name, rating in ours.items():
        assert rating == pytest.approx(1000 + ELO * (theirs[name] - theirs["c2"]), abs=0.2), name


def ratings_of(table):
    return {row["contestant"]: row["rating"] for row in table.to_pylist()}


def test_the_anchor_holds_its_rating_and_has_an_interval():
    for interval in ("bootstrap", "sandwich"):
        intervals = Intervals(interval, seed=3)
        table = rate(simulated([0.5, 0.0, -0.5], 80), Anchor("c1", 1100), intervals)
        anchor = next(row for row in table.to_pylist() if row["contestant"] == "c1")
        assert anchor["rating"] == pytest.approx(1100)
        assert anchor["lower"] < 1100 < anchor["upper"]


def test_one_who_won_everything_stays_finite_and_the_counts_add_up():
    table = battles(*[(f"p{n}", "a", "b", 1.0) for n in range(20)], ("q", "b", "a", 0.5))
    first, second = rate(table, Anchor("b", 1000)).to_pylist()
    assert (first["contestant"], first["wins"], first["losses"], first["ties"]) == ("a", 20, 0, 1)
    assert (second["wins"], second["losses"], second["ties"], second["battles"]) == (0, 20, 1, 21)
    assert 1000 < first["rating"] < 4000 and first["lower"] <= first["rating"] <= first["upper"]
    assert (first["rank"], second["rank"]) == (1, 2)


def test_overlapping_contestants_share_a_rank():
    rows = rate(simulated([0.0, 0.0, -3.0], 60), Anchor("c0", 1000)).to_pylist()
    assert [row["rank"] for row in rows] == [1, 1, 3]


def test_the_order_of_rows_and_of_the_pair_does_not_matter_and_the_seed_does():
    table = simulated([0.5, 0.0, -0.5], 30)
    shuffled = table.take(np.random.default_rng(1).permutation(table.num_rows))
    names = ["prompt_id", "contestant_2", "contestant_1", "score", "weight", "category"]
    other_side = pa.array(1 - shuffled["score"].to_numpy())
    swapped = shuffled.set_column(3, "score", other_side).rename_columns(names)
    anchor = Anchor("c0", 1000)
    drawn = Intervals("bootstrap", resamples=30, seed=5)
    for intervals in (drawn, Intervals()):
        expected = rate(table, anchor, intervals)
        again = rate(swapped, anchor, intervals)
        for one, two in zip(expected.to_pylist(), again.to_pylist(), strict=True):
            assert one["contestant"] == two["contestant"]
            assert one["rating"] == pytest.approx(two["rating"])
            assert one["lower"] == pytest.approx(two["lower"])
    other = Intervals("bootstrap", resamples=30, seed=6)
    assert rate(table, anchor, other)["lower"] != rate(table, anchor, drawn)["lower"]


def test_a_weight_counts_as_that_many_battles():
    weighted = battles(("p", "a", "b", 1.0), ("q", "a", "b", 0.0))
    weighted = weighted.set_column(4, "weight", pa.array([3.0, 1.0]))
    repeated = battles(*[("p", "a", "b", 1.0)] * 3, ("q", "a", "b", 0.0))
    one, two = (rate(table, Anchor("a", 0)).to_pylist() for table in (weighted, repeated))
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
        rate(battles(*rows), Anchor("a", 1000))
