"""Rewards of RL by name, as functions that TRL calls: a number a completion, or None.

Each is called with the columns of its rows, once per completion: `prompts` and `completions`
(messages), `completion_ids`, `asked` (the dialogue without the target's system prompt), `row_id`,
`prompt_id`, `constraints` (JSON), `reference`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from arena_assets.config.plugins import load_function
from arena_assets.config.training import Training
from arena_assets.lake.code import code_version
from arena_assets.models.dialogue import Message, open_turns, with_answers
from arena_assets.training.rows import Row, Unusable
from arena_assets.verifying.constraints import parse_constraints
from arena_assets.verifying.verifier import verify

REWARD_MODEL, VERIFIER, ARENA = "reward_model", "verifier", "arena"
NOTHING_TO_VERIFY = "[]"

Reward = Callable[..., Any]  # a list of a number or None a completion; or a coroutine of it


def rewarding_code(training: Training, stage: str) -> dict[str, str]:
    """The version of the code that rewards, where it decides a stage's checkpoints."""
    verified = stage == "rl" and VERIFIER in training.rl.rewards
    return {"verifier": code_version("verifier")} if verified else {}


def said(completion: Sequence[Message]) -> str:
    """The text of a completion."""
    return completion[-1]["content"]


def verifier(
    completions: Sequence[Sequence[Message]], constraints: Sequence[str], **_: Any
) -> list[float | None]:
    """The share of its prompt's constraints that an answer keeps, None where there are none.

    >>> verifier([[{"role": "assistant", "content": "no, no"}]], ['[{"type": "no_commas"}]'])
    [0.0]
    """
    return [
        verify(stated, said(completion)).share if (stated := parse_constraints(text)) else None
        for completion, text in zip(completions, constraints, strict=True)
    ]


def function_of(name: str) -> Reward:
    """A user's function under the name that the profile has for it.

    TRL tells rewards apart by the names of their functions, and two modules may share one.
    """
    function = load_function(name)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def named(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs)
    else:

        @functools.wraps(function)
        def named(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

    named.__name__ = name
    return named


def seen_by_rewards(row: Row, rewards: Sequence[str]) -> Row:
    """The columns of a row of RL that rewards are given.

    RL answers the first open turn, and constraints are those of the last: where there are several,
    there is nothing to verify. Unusable says so where nothing else rewards.
    """
    stated = row.get("constraints") or NOTHING_TO_VERIFY
    if open_turns(row["messages"]) > 1:
        stated = NOTHING_TO_VERIFY
    if list(rewards) == [VERIFIER] and not parse_constraints(stated):
        raise Unusable("no constraint that the verifier could check on the first open turn")
    return {
        "asked": with_answers(row["messages"], []),
        "row_id": row["row_id"],
        "prompt_id": row["prompt_id"],
        "constraints": stated,
        "reference": row.get("reference"),
    }
