"""Who is promoted after a round, and why."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_assets.flywheel.promotion import choose

NAMES = ["base", "i01.1-sft", "i01.2-dpo"]


@pytest.mark.parametrize(
    ("ratings", "rule", "chosen"),
    [
        ([1000.0, 1040.0, 1020.0], "best", "i01.1-sft"),
        ([1000.0, 990.0, 980.0], "best", "base"),
        ([1000.0, 1040.0, 1040.0], "best", "i01.2-dpo"),
        ([1000.0, 1000.0, 1000.0], "best", "i01.2-dpo"),
        ([1000.0, 1040.0, None], "best", "i01.1-sft"),
        ([None, None, 900.0], "best", "i01.2-dpo"),
        ([1000.0, 1040.0, 900.0], "latest", "i01.2-dpo"),
        ([None, None, 900.0], "latest", "i01.2-dpo"),
    ],
)
def test_the_best_rated_is_promoted_and_among_equals_the_newer_one(ratings, rule, chosen):
    rated = {n: r for n, r in zip(NAMES, ratings, strict=True) if r is not None}
    # an opponent is no candidate, however good it is
    assert choose(rated | {"reference": 2000.0}, NAMES, rule)[0] == chosen


def test_the_reason_names_who_was_compared():
    ratings = {"base": 1000.4, "i01.1-sft": 1039.6}
    assert choose(ratings, NAMES[:2], "best")[1] == "the best rating of base 1000, i01.1-sft 1040"
    newest = choose(ratings, NAMES[:2], "latest")[1]
    assert newest == "the newest checkpoint fights on (promotion: latest)"


@pytest.mark.parametrize(
    ("rated", "rule", "who"),
    [
        ({"reference": 1.0}, "best", "base, i01.1-sft, i01.2-dpo"),
        ({"base": 1.0, "i01.1-sft": 2.0}, "latest", "i01.2-dpo"),
        ({}, "latest", "i01.2-dpo"),
    ],
)
def test_nobody_is_promoted_without_a_rating(rated, rule, who):
    with pytest.raises(ValueError, match=rf"^no rating of {who}: no battle of it was decided$"):
        choose(rated, NAMES, rule)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_nobody_who_is_promoted_has_a_better_or_a_newer_equal(ratings):
    names = [f"i{number:02d}.1-sft" for number in range(len(ratings))]
    chosen, _ = choose(dict(zip(names, map(float, ratings), strict=True)), names, "best")
    place = names.index(chosen)
    assert ratings[place] == max(ratings) and ratings[place] not in ratings[place + 1 :]
