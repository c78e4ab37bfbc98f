"""The shapes of prompt collections that are understood, and how a row of each becomes a prompt.

A prompt is a dialogue that waits for an answer: system messages, then turns of the user and what
was answered to them, a turn of the user last. Recorded answers between turns of the user are
history; where one is absent the contestant itself answers, as in benchmarks with a second turn.
Collections that hold the answer too lose it.

A row is one of two kinds: a dialogue (messages, conversations, ...), or a text with what belongs to
it: a passage, choices, earlier turns, a system prompt. Which column is what, `MEANINGS` says; a
source may say it otherwise (`columns`, `ignore` in the profile).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from arena_assets.config.prompts import Source
from arena_assets.curation.transcripts import dialogue_in, python_list
from arena_assets.curation.turns import (
    MEDIA,
    Dialogue,
    Message,
    content_of,
    dialogue_of,
    history_of,
    role_of,
)
from arena_assets.reading.records import parse_json, text_of

# Our names for what a row holds, each with the columns that mean it, the first ones first.
MEANINGS: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "data", "contents", "chosen"),
    "prompt": ("prompt", "instruction", "question", "inputs", "query", "turns", "input", "text"),
    "passage": ("context", "input", "passage", "article"),
    "choices": ("choices", "options"),
    "history": ("history",),
    "system": ("system", "system_prompt", "system_message"),
    "second_turn": ("second_turn",),
    "prompt_id": ("prompt_id",),
    "constraints": ("constraints",),
    "category": ("category",),
    "difficulty": ("difficulty",),
    "reference": ("reference",),
}
# What holds the prompt, in the order of preference: where nothing else does, `data` (UltraChat) or
# the chosen of two dialogues (TRL's implicit prompts).
_LAST = ("data", "contents", "chosen")
ANSWERS = frozenset(
    (
        *("output", "outputs", "response", "responses", "answer", "answers", "completion"),
        *("target", "targets", "chosen", "rejected", "solution", "ideal", "answerKey", "label"),
    )
)
UNDERSTOOD = (
    "dialogues (messages, conversations, conversation, data, contents) or texts "
    "(prompt, instruction, question, inputs, query, turns, input, text)"
)
UNCATEGORISED = "uncategorised"
_NO_INPUT = re.compile(r"<?no ?input>?\.?", re.IGNORECASE)  # what Alpaca's generator wrote
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Shaped:
    """What a row holds of a prompt.

    `used` are the columns that went into it; `dropped` says which values did not fit and were left
    out, so that they did not cost the row.
    """

    prompt_id: str | None
    messages: list[Message]
    constraints: str  # a JSON list
    category: str
    difficulty: float | None
    reference: str | None
    used: frozenset[str]
    dropped: tuple[str, ...]


class Shape:
    """The columns of a source by their meaning; what the source says itself comes first."""

    def __init__(self, source: Source):
        self.ignored = frozenset(source.ignore)
        self.named = dict(source.columns)
        taken = {*self.ignored, *self.named.values()}
        self._columns = {
            meaning: (self.named[meaning],)
            if meaning in self.named
            else tuple(column for column in usual if column not in taken)
            for meaning, usual in MEANINGS.items()
        }
        self.prompts = self._candidates()
        self.known = {column for columns in self._columns.values() for column in columns}
        self.known |= {"role", *MEDIA} - self.ignored

    def _candidates(self) -> tuple[tuple[str, bool], ...]:
        """The columns that may hold the prompt, and whether they hold a dialogue."""
        said = [meaning for meaning in ("messages", "prompt") if meaning in self.named]
        found = [
            (column, meaning == "messages")
            for meaning in said or ("messages", "prompt")
            for column in self._columns[meaning]
        ]
        return tuple(sorted(found, key=lambda pair: not said and pair[0] in _LAST))

    def recognised(self, columns: Iterable[str]) -> bool:
        """Whether a row with these columns may hold a prompt."""
        there = set(columns)
        return any(column in there for column, _ in self.prompts)

    def read(self, row: Mapping[str, Any]) -> Shaped:
        """The prompt in a row; ValueError says why there is none."""
        used: set[str] = set()
        dropped: list[str] = []
        for name in MEDIA:
            if name in row and name not in self.ignored and present(row[name]):
                raise ValueError(
                    f"{name}: a part of the prompt that is no text (to leave it out: ignore)"
                )
        column, dialogue = self._prompt_column(row)
        used.add(column)
        value = row[column]
        if not dialogue and isinstance(value, str | bytes):
            value = dialogue_in(str(text_of(value)), column) or value
        if dialogue or isinstance(value, list | dict):
            found = self._dialogue(row, column, value, dialogue, used)
        elif isinstance(value, str | bytes):
            if column == "text":
                self._refuse_answers(row, used)
            found = self._text(row, column, used)
        else:
            raise ValueError(f"{column}: expected text, got {type(value).__name__}")
        dropped += found.dropped
        messages = self._with_system(row, found.messages, used)
        return Shaped(
            self._identifier(row, used),
            messages,
            constraints_of(self._value(row, "constraints", used)),
            self._optional(row, "category", used, dropped) or UNCATEGORISED,
            self._difficulty(row, used, dropped),
            self._optional(row, "reference", used, dropped),
            frozenset(used),
            tuple(dropped),
        )

    def _prompt_column(self, row: Mapping[str, Any]) -> tuple[str, bool]:
        there = [pair for pair in self.prompts if pair[0] in row]
        if not there:
            raise ValueError(f"no column is known; understood: {UNDERSTOOD}")
        filled = [pair for pair in there if present(row[pair[0]])]
        column, dialogue = (filled or there)[0]
        if not filled:
            raise ValueError(f"{column}: {'missing' if row[column] is None else 'empty'}")
        if column == "data" and "data" not in self.named.values() and _holds_rows(row["data"]):
            raise ValueError("data: expected texts; of an object with rows in it give the rows")
        return column, dialogue

    def _refuse_answers(self, row: Mapping[str, Any], used: set[str]) -> None:
        """ValueError for what an assistant said, where a table has one row a turn (OASST)."""
        if "role" in self.ignored or not present(row.get("role")):
            return
        try:
            role = role_of(row["role"], "role")
        except ValueError:  # a role of another kind
            return
        used.add("role")
        if role != "user":
            raise ValueError(f"role: a text of the {role}, no prompt")

    def _dialogue(
        self, row: Mapping[str, Any], column: str, value: Any, alternating: bool, used: set[str]
    ) -> Dialogue:
        found = dialogue_of(value, column, alternating)
        texts = isinstance(value, list) and any(isinstance(x, str) for x in value)
        if texts and not alternating:  # questions one after the other, no dialogue
            found.messages[0]["content"] = self._with_passages(
                row, column, found.messages[0]["content"], used
            )
        return found

    def _text(self, row: Mapping[str, Any], column: str, used: set[str]) -> Dialogue:
        found = Dialogue()
        history = self._value(row, "history", used)
        if history is not None:
            found = history_of(history, self._columns["history"][0])
        text = self._with_passages(row, column, str(text_of(row[column])), used)
        found.messages.append({"role": "user", "content": text})
        second = self._value(row, "second_turn", used)
        if second is not None:
            content = _required(content_of(second, "second_turn"), "second_turn")
            found.messages.append({"role": "user", "content": content})
        return found

    def _with_passages(self, row: Mapping[str, Any], column: str, text: str, used: set[str]) -> str:
        """An instruction, the passages that it is about, and the choices that it leaves."""
        parts = [text]
        for name in self._columns["passage"]:
            if name == column or not present(row.get(name)):
                continue
            used.add(name)
            passage = _texts(row[name], name)
            if name == "input" and _NO_INPUT.fullmatch(passage.strip()):
                continue
            # a prompt that was made from an instruction and its input holds both already
            if column == "instruction" or passage.strip() not in text:
                parts.append(passage)
        choices = self._value(row, "choices", used)
        if choices is not None:
            parts.append(_choices(choices, text))
        return "\n\n".join(part for part in parts if part.strip())

    def _with_system(
        self, row: Mapping[str, Any], messages: list[Message], used: set[str]
    ) -> list[Message]:
        system = self._value(row, "system", used)
        text = "" if system is None else content_of(system, "system")
        if not text.strip():
            return messages
        first = messages[0]
        if first["role"] != "system":
            return [{"role": "system", "content": text}, *messages]
        if text.strip() != first["content"].strip():
            first["content"] = f"{text}\n\n{first['content']}"
        return messages

    def _value(self, row: Mapping[str, Any], meaning: str, used: set[str]) -> Any:
        """The value of the first column of a meaning that has one, or None."""
        for column in self._columns[meaning]:
            if present(row.get(column)):
                used.add(column)
                return row[column]
        return None

    def _identifier(self, row: Mapping[str, Any], used: set[str]) -> str | None:
        value = self._value(row, "prompt_id", used)
        return None if value is None else identifier_of(value, "prompt_id")

    def _optional(
        self, row: Mapping[str, Any], meaning: str, used: set[str], dropped: list[str]
    ) -> str | None:
        value = self._value(row, meaning, used)
        if value is None:
            return None
        try:
            return _texts(value, meaning, ", " if meaning == "category" else "\n\n")
        except ValueError:
            dropped.append(f"{meaning}: no text")
            return None

    def _difficulty(
        self, row: Mapping[str, Any], used: set[str], dropped: list[str]
    ) -> float | None:
        value = self._value(row, "difficulty", used)
        if value is None:
            return None
        try:
            difficulty = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            difficulty = math.nan
        if 0 <= difficulty <= 10:
            return difficulty
        dropped.append("difficulty: no number from 0 to 10")
        return None


def present(value: Any) -> bool:
    """Whether a cell holds anything: no null, NaN, blank text, empty list or struct of nulls."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, dict):
        return any(item is not None for item in value.values())
    return not (value is None or value != value or (isinstance(value, list | bytes) and not value))


def _holds_rows(value: Any) -> bool:
    return not isinstance(value, list) or isinstance(value[0], dict)


def identifier_of(value: Any, place: str) -> str:
    """An identifier as text; ValueError for what could be written in several ways."""
    text = text_of(value)
    if text is None:
        raise ValueError(f"{place}: expected text or a whole number, got {type(value).__name__}")
    return _required(text, place)


def constraints_of(value: Any) -> str:
    """The constraints as a JSON list, "[]" without any; ValueError says which one is invalid.

    Nulls are what Arrow fills into structs whose fields differ, and are left out.
    """
    from arena_assets.verifying.constraints import parse_constraints

    if isinstance(value, str):
        try:
            value = parse_json(value)
        except ValueError as error:
            raise ValueError(f"constraints: {error}") from None
    if value is None:
        return "[]"
    if isinstance(value, list):
        value = [
            {key: part for key, part in item.items() if part is not None}
            if isinstance(item, dict)
            else item
            for item in value
        ]
    text = json.dumps(value, ensure_ascii=False, default=str)
    parse_constraints(text)
    return text


def _required(text: str, place: str) -> str:
    if not text.strip():
        raise ValueError(f"{place}: empty")
    return text


def _texts(value: Any, place: str, between: str = "\n\n") -> str:
    """A text, a number as it was written, or several of them."""
    if isinstance(value, list):
        return between.join(_texts(item, place) for item in value if present(item))
    text = repr(value) if type(value) is float else text_of(value)
    return content_of(value, place) if text is None else text


def _choices(value: Any, question: str) -> str:
    """The choices, a line each with a letter before it; nothing where the question lists them."""
    if isinstance(value, str | bytes):
        text = str(text_of(value))
        try:
            value = parse_json(text)
        except ValueError:
            value = python_list(text)
        if value is None:  # listed as they are to be shown
            return "" if text.strip() in question else text
    labels, texts = _labelled(value)
    marks = [rf"\(?{re.escape(label)}\s*[.):]" for label in labels]
    if all(re.match(mark, text) for mark, text in zip(marks, texts, strict=True)):
        return "\n".join(texts)
    if all(re.search(rf"(?m)^\s*{mark}", question) for mark in marks):
        return ""
    return "\n".join(f"{label}. {text}" for label, text in zip(labels, texts, strict=True))


def _labelled(value: Any) -> tuple[list[str], list[str]]:
    """Labels and texts of [x, y], {text: [x, y], label: [A, B]}, [{label: A, text: x}], {A: x}."""
    labels: Any = None
    texts = value
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        labels, texts = value.get("label"), value["text"]
    elif isinstance(value, dict):
        given = {key: text for key, text in value.items() if text is not None}
        labels, texts = list(given), list(given.values())
    elif isinstance(value, list) and all(isinstance(item, dict) for item in value):
        labels, texts = ([item.get(key) for item in value] for key in ("label", "text"))
    if not isinstance(texts, list) or not all(present(text) for text in texts):
        raise ValueError("choices: expected a list of texts")
    named = [text_of(label) for label in labels] if isinstance(labels, list) else []
    found = [label for label in named if label is not None]
    if len(found) != len(texts) or len(named) != len(texts):
        found = _letters(len(texts))
    return found, [_texts(text, "choices") for text in texts]


def _letters(count: int) -> list[str]:
    return list(_LETTERS[:count]) if count <= len(_LETTERS) else [str(n + 1) for n in range(count)]
