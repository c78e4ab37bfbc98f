"""The table of rounds: what each fights with, trains from and trains on."""

import itertools

import pytest

from arena_assets.config.profile import load_profile
from arena_assets.config.rounds import UnknownRound, parse_key, rounds_in_order, select_round, until

PAPER = rounds_in_order(load_profile("profiles/paper-7b.yaml").rounds)


def test_rounds_of_the_paper_are_in_time_order_and_accumulate_per_stage():
    assert list(PAPER) == [
        f"i0{iteration}.{step}-{stage}"
        for iteration in (1, 2, 3)
        for step, stage in ((1, "sft"), (2, "dpo"), (3, "rl"))
    ]
    assert [r.slice for r in PAPER.values()] == [f"D{n}" for n in range(1, 10)]
    assert PAPER["i03.2-dpo"].trains_on == ("i01.2-dpo", "i02.2-dpo", "i03.2-dpo")
    assert PAPER["i03.3-rl"].trains_on == ("i01.3-rl", "i02.3-rl", "i03.3-rl")


def test_every_round_follows_the_one_before():
    keys = list(PAPER)
    assert PAPER[keys[0]].previous is None and PAPER[keys[-1]].following is None
    for before, after in itertools.pairwise(keys):
        assert PAPER[after].previous == before and PAPER[before].following == after
    assert PAPER["i01.1-sft"].fights_with == "the base model"
    assert PAPER["i02.1-sft"].fights_with == "promoted after i01.3-rl"


def test_keys():
    assert parse_key("i12.3-rl") == (12, 3, "rl")
    for wrong in ("i1.1-sft", "i01.2-sft", "i01.1-ppo", "i01-sft", ""):
        with pytest.raises(ValueError, match="is no round key"):
            parse_key(wrong)


def test_an_unknown_round_is_told_with_the_known_ones():
    with pytest.raises(UnknownRound, match=r"no round 'i09.1-sft'.*i01.1-sft, i01.2-dpo"):
        select_round(PAPER, "i09.1-sft")


def test_until_is_inclusive():
    assert until(PAPER, "i01.2-dpo") == ["i01.1-sft", "i01.2-dpo"]
