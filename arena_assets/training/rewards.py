"""Rewards of RL by name, as functions that TRL calls: a number a completion, or None.

Each is called with the columns of its rows, once per completion: `prompts` and `completions`
(messages), `completion_ids`, `asked` (the dialogue without the target's system prompt), `row_id`,
`prompt_id`, `constraints` (JSON), `reference`.
"""

from __future__ import annotations

import functools
import inspect
import math
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from arena_assets.config.plugins import load_function, source_of
from arena_assets.config.training import Training
from arena_assets.lake.code import code_version
from arena_assets.models.dialogue import Message, open_turns, with_answers
from arena_assets.training.failures import Refused
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

    TRL tells rewards apart by the names of their functions, and two modules may share one. Raises
    Refused where the function is not there, and has it raised where what it does is no reward.
    """
    with _told(name, "its module cannot be imported"):
        function = load_function(name)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def named(*args: Any, **kwargs: Any) -> Any:
            with _told(name, "it failed"):
                given = await function(*args, **kwargs)
            return _numbers(name, given, len(kwargs["completions"]))
    else:

        @functools.wraps(function)
        def named(*args: Any, **kwargs: Any) -> Any:
            with _told(name, "it failed"):
                given = function(*args, **kwargs)
            return _numbers(name, given, len(kwargs["completions"]))

    named.__name__ = name
    return named


@contextmanager
def _told(name: str, what: str) -> Iterator[None]:
    """What goes wrong in a user's function as a sentence, with the place in their file."""
    try:
        yield
    except Exception as error:
        if str(error).startswith(f"{name}: "):  # load_function's own words
            raise Refused(f"training.rl.reward: {error}") from error
        file = str(source_of(name))
        trace = traceback.extract_tb(error.__traceback__)
        lines = [at.lineno for at in trace if at.filename == file]
        place = f"{file}, line {lines[-1]}" if lines else file
        said = f"{type(error).__name__}: {error}"
        raise Refused(f"training.rl.reward: {name}: {what} ({place}): {said}") from error


def _numbers(name: str, given: Any, count: int) -> list[float | None]:
    """What a function gave as rewards; Refused where it is not one for each completion."""
    try:
        rewards = [None if one is None else float(one) for one in given]
    except (TypeError, ValueError):
        raise Refused(
            f"training.rl.reward: {name} gave {given!r:.80}: a list of a number or None for each "
            "completion would be right"
        ) from None
    if len(rewards) != count:
        raise Refused(
            f"training.rl.reward: {name} gave {len(rewards)} rewards for {count} completions: one "
            "for each would be right, None where it does not apply"
        )
    if wrong := [one for one in rewards if one is not None and math.isinf(one)]:
        raise Refused(
            f"training.rl.reward: {name} gave {wrong[0]} as a reward: a finite number would be "
            "right, or None where it does not apply"
        )
    return rewards


def seen_by_rewards(row: Row, weights: Mapping[str, float]) -> Row:
    """The columns of a row of RL that rewards, whose weights are given by name, are given.

    RL answers the first open turn, and constraints are those of the last: where there are several,
    there is nothing to verify. Unusable says so where nothing else rewards: a reward of weight 0
    only watches.
    """
    stated = row.get("constraints") or NOTHING_TO_VERIFY
    if open_turns(row["messages"]) > 1:
        stated = NOTHING_TO_VERIFY
    rewarding = {name for name, weight in weights.items() if weight}
    if rewarding == {VERIFIER} and not parse_constraints(stated):
        raise Unusable("no constraint that the verifier could check on the first open turn")
    return {
        "asked": with_answers(row["messages"], []),
        "row_id": row["row_id"],
        "prompt_id": row["prompt_id"],
        "constraints": stated,
        "reference": row.get("reference"),
    }
