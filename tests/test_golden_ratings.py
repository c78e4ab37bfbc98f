"""Values that other implementations publish, and what few battles may say."""

from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.testing import CliRunner

from arena_assets.cli.main import app
from arena_assets.config.places import PROJECT
from arena_assets.config.ratings import Ratings
from arena_assets.ratings.battles import BATTLES, read_battles
from arena_assets.ratings.bradley_terry import ELO, Anchor, Intervals, rate
from arena_assets.ratings.comparisons import MOST_CONTESTANTS, UnratableBattles

LLMFAO = PROJECT.parent / "shared" / "data" / "llmfao"

# evalica's simple.csv, food.csv and their golden files (github.com/dustalov/evalica, Apache-2.0):
# pairs and winners (l, r or = for a tie), and the scores of bradley_terry, which sum to 1
EVALICA = {
    "simple": (
        "01= 02r 02= 04= 10l 12= 12= 13= 24= 30l 31l 32l 34= 34= 40l 43l",
        {
            "4": 0.34947527489923,
            "3": 0.33688868041573855,
            "2": 0.13168568070110523,
            "1": 0.1311506914535368,
            "0": 0.050799672530389396,
        },
    ),
    # Burger, Noodles (pasta), Pizza, Sushi and Tacos by their first letters
    "food": (
        "PSl BNr TPl STr BPl NSr TBl PN= SBr NTl BSr TPl SN= BTl PBr "
        "NTr BSr TNl PTr SBl NPr BSr TNl PSl SBr NTr TPl BNr STl PBr",
        {
            "T": 0.43428982771223773,
            "S": 0.19060028489839073,
            "B": 0.14797665121689418,
            "N": 0.1281534106031957,
            "P": 0.09897982556928168,
        },
    ),
}
# arena-rank's test_wikipedia_example (github.com/lmarena/arena-rank, Apache-2.0): games won, and
# the strengths, whose geometric mean is 1
WIKIPEDIA = {"AB": (2, 3), "AD": (1, 4), "BC": (5, 3), "CD": (1, 3)}
WIKIPEDIA_STRENGTHS = {"A": 0.640, "B": 1.043, "C": 0.660, "D": 2.270}


def battles(*rows):
    """Rows of (contestant_1, contestant_2, share of the point), each on a prompt of its own."""
    columns = ("contestant_1", "contestant_2", "score")
    table = [
        dict(zip(columns, row, strict=True)) | {"prompt_id": str(number), "weight": 1.0}
        for number, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(table, schema=BATTLES)


def rows_of(table, **intervals):
    first = table["contestant_1"][0].as_py()
    rated = rate(table, Anchor(first, 1000), Intervals(**intervals)).to_pylist()
    return {row["contestant"]: row for row in rated}


def strengths(table):
    return {name: np.exp(row["rating"] / ELO) for name, row in rows_of(table).items()}


@pytest.mark.parametrize("name", EVALICA)
def test_evalicas_golden_scores(name):
    pairs, golden = EVALICA[name]
    share = {"l": 1.0, "=": 0.5, "r": 0.0}
    found = strengths(battles(*[(one, two, share[who]) for one, two, who in pairs.split()]))
    total = sum(found.values())
    assert found.keys() == golden.keys()
    for item, score in golden.items():
        assert found[item] / total == pytest.approx(score, rel=0.005), item


def test_arena_ranks_golden_strengths():
    rows = [
        (one, two, share)
        for (one, two), wins in WIKIPEDIA.items()
        for share, times in zip((1.0, 0.0), wins, strict=True)
        for _ in range(times)
    ]
    found = strengths(battles(*rows))
    mean = np.exp(np.mean(np.log(list(found.values()))))
    for name, strength in WIKIPEDIA_STRENGTHS.items():
        assert found[name] / mean == pytest.approx(strength, rel=0.001), name


@pytest.mark.skipif(not LLMFAO.exists(), reason="no ../shared/data/llmfao on this machine")
def test_evalicas_golden_scores_and_order_on_8931_real_battles():
    with (LLMFAO / "llmfao-golden.csv").open() as file:
        golden = {
            row["item"]: float(row["score"])
            for row in csv.DictReader(file)
            if row["algorithm"] == "bradley_terry"
        }
    found = strengths(read_battles(LLMFAO / "llmfao.csv", "llmfao").table)
    total = sum(found.values())
    assert sorted(found, key=found.get) == sorted(golden, key=golden.get)
    for item, score in golden.items():
        assert found[item] / total == pytest.approx(score, rel=0.005), item


# -- few battles ------------------------------------------------------------------------------


def test_one_battle_ranks_nobody():
    """Firth's fit of one win is 1.5 to 0.5, so 191 points; the interval is far wider."""
    rows = rows_of(battles(("a", "b", 1.0)))
    assert rows["a"]["rating"] - rows["b"]["rating"] == pytest.approx(ELO * np.log(3))
    assert [row["rank"] for row in rows.values()] == [1, 1]
    assert all(row["upper"] - row["lower"] > 1000 for row in rows.values())


def test_ten_of_ten_won_has_an_interval_and_an_order():
    """10.5 to 0.5; the sign test says p = 0.002, so the order is sure, the distance is not."""
    rows = rows_of(battles(*[("a", "b", 1.0)] * 10))
    assert rows["a"]["rating"] - rows["b"]["rating"] == pytest.approx(ELO * np.log(21))
    assert rows["a"]["rank"] == 1 and rows["b"]["rank"] == 2
    width = rows["a"]["upper"] - rows["a"]["lower"]
    assert 500 < width < 3000
    above, below = (rows["a"][bound] - rows["a"]["rating"] for bound in ("upper", "lower"))
    assert above > -2 * below, "a clean sweep may be worth far more, and hardly less"


def test_a_preference_next_to_a_sweep_is_a_sweep():
    sure = rows_of(battles(*[("a", "b", 1.0)] * 10))
    nearly = rows_of(battles(*[("a", "b", 0.9999993)] * 10))
    for name in "ab":
        assert nearly[name]["rating"] == pytest.approx(sure[name]["rating"], abs=1)
        assert nearly[name]["upper"] == pytest.approx(sure[name]["upper"], abs=1)


def test_one_who_lost_everything_is_far_below_and_nobody_knows_how_far():
    """Three are close; the fourth lost its twelve battles."""
    close = [(one, two, float(n % 2)) for n in range(20) for one, two in ("ab", "bc", "ac")]
    rows = rows_of(battles(*close, *[("d", "a", 0.0)] * 12))
    widths = {name: row["upper"] - row["lower"] for name, row in rows.items()}
    assert rows["d"]["rank"] == 4 and [rows[name]["rank"] for name in "abc"] == [1, 1, 1]
    assert widths["d"] > 2 * widths["b"]
    assert rows["d"]["rating"] - rows["d"]["lower"] > rows["d"]["upper"] - rows["d"]["rating"]


def test_ten_ties_leave_some_doubt():
    rows = rows_of(battles(*[("a", "b", 0.5)] * 10))
    assert rows["a"]["rating"] == pytest.approx(rows["b"]["rating"])
    assert 20 < rows["a"]["upper"] - rows["a"]["lower"] < 200


def test_a_newcomer_with_five_battles_is_less_certain_than_a_hundred_prompts_make_it_look():
    pairs = [
        (one, two, float((n + k) % 2))
        for n in range(100)
        for k, (one, two) in enumerate(("ab", "bc", "ca"))
    ]
    few = [("n", "a", 1.0), ("n", "a", 0.0), ("n", "b", 1.0), ("n", "c", 0.0), ("n", "b", 1.0)]
    rows = rows_of(battles(*pairs, *few))
    widths = {name: row["upper"] - row["lower"] for name, row in rows.items()}
    assert widths["n"] > 3 * max(widths[name] for name in "abc")


def test_weights_that_are_shares_make_no_wider_intervals():
    table = battles(*[("a", "b", float(n % 3 > 0)) for n in range(30)])
    shares = table.set_column(4, "weight", pa.array([1 / 30] * 30))
    whole, parts = rows_of(table), rows_of(shares)
    for name in "ab":
        for column in ("rating", "lower", "upper"):
            assert parts[name][column] == pytest.approx(whole[name][column])


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz"), st.floats(0, 1)),
        min_size=1,
        max_size=25,
    ),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_rating_lies_inside_a_finite_interval_that_has_a_width(rows, simultaneous):
    connected = [("a", side, 0.5) for side in "wxyz"] + [(side, "w", 1.0) for side in "abcd"]
    found = rows_of(battles(*rows, *connected), simultaneous=simultaneous)
    for row in found.values():
        assert np.isfinite([row["lower"], row["upper"]]).all()
        assert row["lower"] < row["rating"] < row["upper"]


def test_simultaneous_intervals_are_wider_and_the_command_says_what_single_ones_do_not_promise(
    tmp_path,
):
    lines = [f"{n},{one},{two},tie" for n in range(9) for one, two in ("ab", "bc", "ac")]
    path = tmp_path / "b.csv"
    path.write_text("\n".join(["prompt_id,model_a,model_b,winner", *lines]))

    def run(*options):
        return CliRunner().invoke(app, ["rate", str(path), *options])

    each, together = (
        json.loads(run("--format", "json", *options).stdout)["ratings"]
        for options in ([], ["--simultaneous"])
    )
    for one, all_at_once in zip(each, together, strict=True):
        assert all_at_once["lower"] < one["lower"] and one["upper"] < all_at_once["upper"]
    assert "of many pairs some may lie apart by chance" in run().stdout
    assert "by chance" not in run("--simultaneous").stdout
    refused = run("--simultaneous", "--interval", "bootstrap")
    assert refused.exit_code == 1 and "goes with --interval sandwich" in refused.stderr


def test_a_bootstrap_that_draws_the_same_every_time_is_refused():
    with pytest.raises(UnratableBattles, match="draws the same result every time"):
        rows_of(battles(*[("a", "b", 1.0)] * 10), kind="bootstrap")


def test_weights_from_one_to_a_million_millions_give_ratings_or_one_clear_error():
    draw = np.random.default_rng(3)
    for _ in range(100):
        rows = [(*draw.permutation(list("abcd"))[:2], float(draw.integers(2))) for _ in range(20)]
        weights = pa.array(draw.choice([1e-6, 1e6], 20))
        table = battles(*rows).set_column(4, "weight", weights)
        try:
            found = rows_of(table)
        except UnratableBattles as error:
            assert "too far apart" in str(error) or "never met" in str(error)
        else:
            assert all(row["lower"] < row["rating"] < row["upper"] for row in found.values())


def test_more_contestants_than_can_be_rated_are_told():
    rows = [("a", str(number), 1.0) for number in range(MOST_CONTESTANTS)]
    with pytest.raises(UnratableBattles, match=r"5,001 contestants.*are these columns names\?"):
        rows_of(battles(*rows))


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"interval": "bootstrap", "simultaneous": True}, "goes with interval: sandwich"),
        ({"interval": "exact"}, "'sandwich' or 'bootstrap'"),
        ({"anchor_rating": float("nan")}, "finite number"),
        ({"anchor_rating": float("inf")}, "finite number"),
    ],
)
def test_a_profile_cannot_ask_for_what_there_is_not(settings_, message):
    with pytest.raises(ValidationError, match=message):
        Ratings(anchor="base", **settings_)
