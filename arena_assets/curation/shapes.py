"""The shapes of prompt collections that are understood, and how a row of each becomes messages.

A prompt is a dialogue that waits for an answer: an optional system message, then turns of the user,
the last one too. Recorded turns of the assistant between them are history; where one is absent the
contestant itself answers, as in benchmarks with a second turn. Collections that hold the answer too
lose their last assistant turn.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Message = dict[str, str]

TEXT_COLUMNS = ("prompt", "instruction", "question", "text")
EXTRA_COLUMNS = ("prompt_id", "constraints", "category", "difficulty", "reference")
COLUMNS = ("messages", "conversations", "input", "second_turn", *TEXT_COLUMNS, *EXTRA_COLUMNS)
UNDERSTOOD = (
    "messages (role, content), conversations (from, value), instruction with input, "
    f"or a text column ({', '.join(TEXT_COLUMNS)})"
)
UNCATEGORISED = "uncategorised"

_SPEAKERS = {"human": "user", "gpt": "assistant"}
_ROLES = ("system", "user", "assistant")


def recognise(columns: Iterable[str]) -> str | None:
    """The column that holds the prompt, or None; dialogues come before single texts.

    >>> recognise(["id", "conversations"])
    'conversations'
    """
    present = set(columns)
    for column in ("messages", "conversations", *TEXT_COLUMNS):
        if column in present:
            return column
    return None


def to_messages(row: Mapping[str, Any], column: str) -> list[Message]:
    """The dialogue of a row whose prompt is in `column`; ValueError says what is wrong with it."""
    value = row[column]
    if column == "messages":
        return _dialogue(_turns(value, column, "role", "content"), column)
    if column == "conversations":
        return _dialogue(_turns(value, column, "from", "value"), column)
    text = _text(value, column)
    if column == "instruction" and row.get("input"):
        context = _text(row["input"], "input", blank=True)
        text = f"{text}\n\n{context}" if context.strip() else text
    turns = [text, row["second_turn"]] if row.get("second_turn") else [text]
    return [{"role": "user", "content": _text(turn, "second_turn")} for turn in turns]


def constraints_of(row: Mapping[str, Any]) -> str:
    """The constraints as a JSON list, "[]" without any; ValueError says which one is invalid."""
    from arena_assets.judging.constraints import parse_constraints

    value = row.get("constraints")
    if value is None or value == "":
        return "[]"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    parse_constraints(text)
    return text


def difficulty_of(row: Mapping[str, Any]) -> float | None:
    """The difficulty, None without one; ValueError outside 0-10."""
    value = row.get("difficulty")
    if value is None or value == "":
        return None
    try:
        difficulty = float(value)
    except (TypeError, ValueError):
        difficulty = math.nan
    if not 0 <= difficulty <= 10:
        raise ValueError(f"difficulty: expected a number from 0 to 10, got {value!r}")
    return difficulty


def optional_text(row: Mapping[str, Any], column: str) -> str | None:
    """The text of a column that may be missing or empty (numbers serve as identifiers)."""
    value = row.get(column)
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and column == "prompt_id":
        return str(value)
    return _text(value, column)


def _text(value: Any, place: str, blank: bool = False) -> str:
    if value is None:
        raise ValueError(f"{place}: missing")
    if not isinstance(value, str):
        raise ValueError(f"{place}: expected text, got {type(value).__name__}")
    if not blank and not value.strip():
        raise ValueError(f"{place}: empty")
    return value


def _turns(value: Any, column: str, role: str, content: str) -> list[Message]:
    """A list of turns, also where a CSV or Parquet cell holds it as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"{column}: not JSON: {error}") from None
    if value is None:
        raise ValueError(f"{column}: missing")
    if not isinstance(value, list):
        raise ValueError(f"{column}: expected a list of turns, got {type(value).__name__}")
    turns = []
    for number, turn in enumerate(value, start=1):
        place = f"{column}, turn {number}"
        if not isinstance(turn, Mapping):
            raise ValueError(f"{place}: expected {role} and {content}, got {type(turn).__name__}")
        speaker = _text(turn.get(role), f"{place}, {role}")
        speaker = _SPEAKERS.get(speaker, speaker)
        if speaker not in _ROLES:
            valid = ", ".join((*_ROLES, *_SPEAKERS))
            raise ValueError(f"{place}: unknown {role} {speaker!r} (valid: {valid})")
        text = _text(turn.get(content), f"{place}, {content}")
        turns.append({"role": speaker, "content": text})
    return turns


def _dialogue(turns: Sequence[Message], column: str) -> list[Message]:
    """The turns up to the last user message, refused where an answer has no question."""
    first = 1 if turns and turns[0]["role"] == "system" else 0
    before = "assistant"
    for number, turn in enumerate(turns[first:], start=first + 1):
        role = turn["role"]
        if role == "system" or (role == "assistant" and before == "assistant"):
            raise ValueError(
                f"{column}, turn {number}: expected user, got {role} (a dialogue starts with the "
                "user, after at most one system message, and the assistant speaks once at a time)"
            )
        before = role
    dialogue = list(turns)
    if dialogue and dialogue[-1]["role"] == "assistant":
        dialogue.pop()
    if not dialogue or dialogue[-1]["role"] != "user":
        raise ValueError(f"{column}: no user message")
    return dialogue
