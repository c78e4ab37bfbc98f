"""Rewards of RL by name: their values, their weights, and what a mistake in a name is told."""

from __future__ import annotations

import asyncio
import sys

import pytest
from pydantic import ValidationError

from arena_assets.config.training import Reinforcement
from arena_assets.config.trl import checked
from arena_assets.lake.identity import canonical
from arena_assets.training.rewards import function_of, seen_by_rewards, verifier
from arena_assets.training.rows import Unusable
from arena_assets.verifying.constraints import parse_constraints
from arena_assets.verifying.verifier import verify

NO_COMMAS = '{"type": "no_commas"}'
THREE_WORDS = '{"type": "word_count", "minimum": 3, "maximum": 3}'


def settings(reward) -> Reinforcement:
    return Reinforcement(
        epochs=1, learning_rate=1e-5, batch=8, kl_coefficient=0, max_completion=8, reward=reward
    )


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A user's module where Python finds it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "brevity.py").write_text(
        "def short(completions, **_):\n"
        "    return [-float(len(c[-1]['content'])) for c in completions]\n"
        "async def later(completions, **_):\n"
        "    return [0.5 for c in completions]\n"
    )
    yield tmp_path
    sys.modules.pop("brevity", None)


def test_the_verifier_rewards_the_share_of_constraints_that_hold():
    texts = ["Paris, and Rome", "Rome and Paris", "Rome, Paris, Oslo, Kyiv", "Rome"]
    stated = f"[{NO_COMMAS}, {THREE_WORDS}]"
    rewards = verifier([answer(text) for text in texts], [stated] * 4)
    assert rewards == [0.5, 1.0, 0.0, 0.5]
    assert rewards == [verify(parse_constraints(stated), text).share for text in texts]


def test_where_nothing_is_demanded_the_verifier_says_nothing_rather_than_zero():
    assert verifier([answer("any"), answer("a b c")], ["[]", f"[{THREE_WORDS}]"]) == [None, 1.0]


def test_a_prompt_without_constraints_is_no_row_where_only_the_verifier_rewards():
    row = {"row_id": "r", "prompt_id": "p", "messages": [{"role": "user", "content": "Hello"}]}
    with pytest.raises(Unusable, match="no constraint that the verifier could check"):
        seen_by_rewards(row | {"constraints": "[]"}, {"verifier": 1.0})
    assert seen_by_rewards(row, {"verifier": 0.5, "reward_model": 0.5})["constraints"] == "[]"


def test_constraints_of_a_last_turn_are_not_held_against_the_first():
    asked = [{"role": "user", "content": "Name three towns."}]
    row = {"row_id": "r", "prompt_id": "p", "constraints": f"[{NO_COMMAS}]", "messages": asked}
    assert seen_by_rewards(row, {"verifier": 1.0})["constraints"] == f"[{NO_COMMAS}]"
    with pytest.raises(Unusable):
        seen_by_rewards(row | {"messages": asked * 2}, {"verifier": 1.0})


def test_weights_are_by_name_and_one_name_has_weight_one():
    assert settings("verifier").rewards == {"verifier": 1.0}
    assert settings({"verifier": 0.7, "reward_model": 0.3}).rewards == {
        "verifier": 0.7,
        "reward_model": 0.3,
    }


@pytest.mark.parametrize(
    ("reward", "told"),
    [
        ("verifer", "'verifer' is no reward (valid: reward_model, verifier, arena, or a function"),
        ({"verifier": 1, "length": 0.1}, "'length' is no reward"),
        ({"verifier": 0.0}, "weights have to be finite numbers, and one of them other than 0"),
        ({"verifier": float("nan")}, "weights have to be finite numbers"),
        ({}, "one of them other than 0"),
        ("nowhere_at_all:score", "no module 'nowhere_at_all', neither installed nor in the"),
    ],
)
def test_a_reward_that_is_none_is_refused_with_what_is_valid(reward, told):
    with pytest.raises(ValidationError) as refused:
        settings(reward)
    assert told in str(refused.value)


def test_weights_of_rewards_are_said_in_one_place_only():
    right, wrong = checked("rl", "GRPOConfig", {"reward_weights": [1.0], "epsilon_high": 0.28})
    assert right == {"epsilon_high": 0.28}
    assert wrong["reward_weights"].endswith("set reward to a mapping of weights by name")


def test_a_users_function_is_called_under_the_name_of_the_profile(workspace):
    short = function_of("brevity:short")
    assert short.__name__ == "brevity:short"
    assert short(completions=[answer("four"), answer("")], prompts=[None, None]) == [-4.0, 0.0]
    later = function_of("brevity:later")
    assert asyncio.run(later(completions=[answer("x")])) == [0.5]
    with pytest.raises(ValueError, match=r"brevity has no function 'long' \(there: later, short\)"):
        function_of("brevity:long")


def test_another_reward_is_another_identity_and_so_is_another_source(workspace):
    plain = canonical(settings("reward_model"))
    assert "reward" not in plain
    assert canonical(settings({"reward_model": 1})) == plain
    assert canonical(settings("verifier"))["reward"] == {"verifier": [1]}
    before = canonical(settings("brevity:short"))
    with (workspace / "brevity.py").open("a") as file:
        file.write("LIMIT = 3\n")
    assert canonical(settings("brevity:short")) != before
