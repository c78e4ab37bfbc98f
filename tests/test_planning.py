"""What a run will take: exact counts, estimates from rates, and unknown where nothing says."""

import os
import subprocess
import sys

import pytest

from arena_assets.config.models import Price
from arena_assets.config.profile import load_profile
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.planning import Rate, Work, _estimated, measured, plan, total_of
from arena_assets.judging.games import STORE_SCHEMA
from arena_assets.lake.lake import Lake
from arena_assets.lake.store import Store


@pytest.fixture
def works(tmp_path, tiny_profile):
    """The plan of the tests' arena before anything was made."""
    return plan(Arena(str(tiny_profile), str(tmp_path / "lake")))


def test_every_new_answer_and_game_is_counted_once(works):
    counted = {(w.round, w.work, w.who): (w.total, w.to_do) for w in works}
    assert counted["i01.1-sft", "responses", "reference"] == (16, 16)
    assert counted["i01.1-sft", "judgments", "verifier"] == (16 * 3 * 2, 16 * 3 * 2)
    assert counted["i01.1-sft", "judgments", "tiny-judge"] == (8, 8), "a sample of 4 battles"
    assert counted["i01.1-sft", "arena_responses", "base"] == (20, 20)
    assert counted["i01.2-dpo", "arena_responses", "base"] == (20, 0), "answered a round before"
    assert counted["i01.2-dpo", "arena_responses", "i01.2-dpo"] == (20, 20)
    assert counted["i01.1-sft", "arena_judgments", "verifier"] == (20 * 6 * 2, 20 * 6 * 2)
    assert counted["i01.2-dpo", "arena_judgments", "verifier"] == (20 * 10 * 2, 20 * 4 * 2)
    assert counted["i01.3-rl", "arena_judgments", "verifier"] == (20 * 15 * 2, 20 * 5 * 2)


def test_unknown_stays_unknown_and_is_no_zero(works):
    base = next(w for w in works if w.who == "base")
    assert (base.prompt_tokens, base.completion_tokens, base.seconds, base.cost) == (None,) * 4
    assert base.most_completion_tokens == 20 * 12, "the limit is known"
    total = total_of(works)
    assert total["cost"] is None and total["seconds"] is None and total["to_do"] > 0


def test_estimates_follow_measured_and_configured_rates():
    settings = load_profile()
    rate = Rate(prompt_tokens=100.0, completion_tokens=10.0, seconds=0.5)
    work = _estimated(settings, "r", "responses", "a", 40, 30, rate, 64, "tiny")
    assert (work.prompt_tokens, work.completion_tokens, work.seconds) == (3000, 300, 15.0)
    assert work.cost is None and work.most_completion_tokens == 30 * 64
    priced = settings.models["tiny"].model_copy(
        update={"price": Price(prompt=2.0, completion=10.0), "tokens_per_second": 100.0}
    )
    settings = settings.model_copy(update={"models": {"tiny": priced}})
    work = _estimated(settings, "r", "responses", "a", 40, 30, rate, 64, "tiny")
    assert (work.seconds, work.cost) == (3.0, pytest.approx(0.009))
    assert _estimated(settings, "r", "games", "j", 40, 0, Rate(), 64, "tiny").cost == 0


def test_a_total_says_what_is_known_and_of_whom_it_is_not():
    works = [
        Work("r", "responses", "api", 10, 10, 1000, 500, 5120, 2.0, 12.0),
        Work("r", "responses", "few-shot", 10, 10, 900, 400, 5120, 3.0, None),
        Work("r", "judgments", "judge", 20, 20, None, None, 5120, None, None),
        Work("s", "judgments", "judge", 20, 20, None, None, 5120, None, None),
        Work("s", "judgments", "verifier", 20, 20, 0, 0, 0, 0.4, 0.0),
    ]
    total = total_of(works)
    assert total["cost"] is None and total["to_do"] == total["known"]["to_do"] == 80
    assert total["known"]["cost"] == 12.0 and total["unknown"]["cost"] == ["few-shot", "judge"]
    assert total["known"]["prompt_tokens"] == 1900 and total["known"]["seconds"] == 5.4
    assert total["unknown"]["seconds"] == total["unknown"]["prompt_tokens"] == ["judge"]
    assert total_of(works[:1])["cost"] == 12.0 and total_of(works[:1])["unknown"] == {}


@pytest.mark.parametrize(
    ("tokens", "prompt", "completion"),
    [
        ([(100, 10), (300, 20)], 200, 15),
        ([(100, 10), (None, None)], 100, 10),
        ([(100, 10), (100, None)], 100, 10),
        ([(None, None)] * 2, None, None),
        ([(0, 0)] * 2, None, None),  # what a server without usage once left
        ([(100, 0)], 100, 0),
        ([], None, None),
    ],
)
def test_tokens_that_no_server_counted_are_unknown_and_no_zero(
    tmp_path, tokens, prompt, completion
):
    lake = Lake(tmp_path)
    store = Store(tmp_path / "store", STORE_SCHEMA, "judgment_id")
    names = ("prompt_tokens", "completion_tokens")
    store.append(
        [
            {"judgment_id": str(number), "seconds": 2.0} | dict(zip(names, pair, strict=True))
            for number, pair in enumerate(tokens)
        ]
    )
    assert measured(lake, store) == Rate(prompt, completion, 2.0 if tokens else None)


def test_the_printed_plan_says_what_is_unknown(tmp_path, tiny_profile):
    environment = os.environ | {"ARENA_LAKE": str(tmp_path), "ARENA_PROFILE": str(tiny_profile)}
    command = [sys.executable, "-m", "arena_assets.cli", "plan", "--until", "i01.1-sft"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "cost: 0.00 + unknown (target of i01.1-sft, best-of-2, tiny-judge, base" in done.stdout
