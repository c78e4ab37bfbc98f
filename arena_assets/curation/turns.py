"""How the turns of a dialogue are read, in whatever shape a data set keeps them.

A turn is who speaks and what is said. Who speaks goes by many names (human, prompter, gpt, bing);
what is said may be a text, or parts of which each is a text. All that comes after the last turn of
the user is an answer, and no part of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from arena_assets.curation.transcripts import ROLE_KEYS, unpacked
from arena_assets.reading.records import text_of

Message = dict[str, str]

CONTENT_KEYS = ("content", "value", "text", "parts")
MEDIA = ("image", "images", "audio", "audios", "video", "videos")
_ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter"),
    "assistant": (
        "assistant",
        "model",
        "bot",
        "chatbot",
        "ai",
        "chatgpt",
        "bing",
        "bard",
        "claude",
    ),
    "tool": (
        *("tool", "tool_call", "tool_calls", "tool_response", "tool_result", "observation"),
        *("function", "function_call", "function_response", "ipython"),
    ),
}
_ROLE_OF = {name: role for role, names in _ROLES.items() for name in names}
_GPT = re.compile(r"gpt[-\w. ]*")  # gpt, gpt4, gpt-3.5-turbo
_ASKS = ("instruction", "input", "prompt", "question", "query", "human", "user")
_ANSWERS = ("output", "response", "answer", "assistant", "bot", "gpt")
_TEXT_PARTS = ("text", "input_text", "output_text")
# parts of a message that are no part of what is said, as Anthropic and Mistral write them
_ASIDE = ("tool_use", "tool_call", "tool_result", "thinking", "redacted_thinking", "reasoning")


@dataclass
class Dialogue:
    """Turns up to the last one of the user; `dropped` says what of them carried no text."""

    messages: list[Message] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Turn:
    role: str
    content: Any
    place: str  # for messages to a person


def dialogue_of(value: Any, column: str, alternating: bool) -> Dialogue:
    """The dialogue in a cell; ValueError says what is wrong with it, and in which turn.

    Plain texts in a list are turns of user and assistant in turn, or, unless `alternating`, all of
    the user.
    """
    turns = list(_turns(value, column, alternating))
    last = next((n for n in reversed(range(len(turns))) if _asks(turns[n])), None)
    if last is None:
        blank = [turn.place for turn in turns if turn.role == "user"]
        raise ValueError(f"{blank[0]}: empty" if blank else f"{column}: no user message")
    kept = turns[: last + 1]
    for turn in turns[last + 1 :]:  # a system message before the answer is part of the question
        if turn.role != "system":
            break
        kept.insert(-1, turn)
    return _joined(kept)


def history_of(value: Any, column: str) -> Dialogue:
    """Turns that come before a question, pairs of question and answer or messages."""
    return _joined(list(_turns(value, column, alternating=True)))


def content_of(value: Any, place: str) -> str:
    """The text of a message, empty without any; ValueError where a part of it is no text."""
    if value is None:
        return ""
    if isinstance(value, dict):
        kind = value.get("type")
        if kind not in (None, *_TEXT_PARTS):
            raise ValueError(f"{place}: a part of type {kind!r} is no text")
        keys = [key for key in CONTENT_KEYS if value.get(key) is not None]
        if not keys and kind is None and any(item is not None for item in value.values()):
            raise ValueError(f"{place}: expected text, got {', '.join(map(str, value))}")
        return content_of(value[keys[0]], place) if keys else ""
    if isinstance(value, list):
        parts = [content_of(part, place) for part in value]
        return "\n".join(part for part in parts if part)
    text = text_of(value) if isinstance(value, str | bytes) else None
    if text is None:
        raise ValueError(f"{place}: expected text, got {type(value).__name__}")
    return text


def _asks(turn: _Turn) -> bool:
    return turn.role == "user" and bool(content_of(turn.content, turn.place).strip())


def _joined(turns: Sequence[_Turn]) -> Dialogue:
    """The messages of turns; what the system or the assistant says in several is one message."""
    dialogue = Dialogue()
    for turn in turns:
        if turn.role == "tool":
            dialogue.dropped.append("tools and reasoning in the history")
            continue
        text = content_of(turn.content, turn.place)
        if not text.strip():
            if turn.role == "user":
                raise ValueError(f"{turn.place}: empty")
            dialogue.dropped.append(f"{turn.role} turns without text")
            continue
        before = dialogue.messages[-1] if dialogue.messages else None
        if before and before["role"] == turn.role != "user":
            before["content"] += "\n\n" + text
        else:
            dialogue.messages.append({"role": turn.role, "content": text})
    return dialogue


def _turns(value: Any, column: str, alternating: bool) -> Iterator[_Turn]:
    """The turns of a cell, also where it holds them as a text."""
    if isinstance(value, str | bytes):
        value = unpacked(text_of(value) or "", column)
    if isinstance(value, dict):
        value = _transposed(value)
    if not isinstance(value, list):
        raise ValueError(f"{column}: expected a list of turns, got {type(value).__name__}")
    if len(value) == 1 and isinstance(value[0], list) and _messages(value[0]):
        (value,) = value
    if value and all(_is_part(item) for item in value):
        yield _Turn("user", value, f"{column}, turn 1")
        return
    speakers = ("user", "assistant") if alternating else ("user", "user")
    for number, item in enumerate(value):
        place = f"{column}, turn {number + 1}"
        if item is None or isinstance(item, str):
            yield _Turn(speakers[number % 2], item, place)
        elif isinstance(item, list) and len(item) == 2:
            ask, answer = item
            yield from _pair(ask, answer, place)
        elif isinstance(item, dict):
            yield from _of_mapping(item, place, alternating)
        else:
            raise ValueError(f"{place}: expected role and content, got {type(item).__name__}")


def _pair(ask: Any, answer: Any, place: str) -> Iterator[_Turn]:
    if ask or answer:
        yield _Turn("user", ask, place)
        yield _Turn("assistant", answer, place)


def _of_mapping(item: Mapping[str, Any], place: str, alternating: bool) -> Iterator[_Turn]:
    """The turn of a message, or the two of a pair of question and answer.

    In a list of questions a message of nobody is the user's (Arena-Hard).
    """
    speaker = _first(item, ROLE_KEYS)
    if speaker is None and not alternating and set(item) <= set(CONTENT_KEYS):
        speaker = "user"
    if speaker is None:
        if not any(key in item for key in _ASKS) or not any(key in item for key in _ANSWERS):
            raise ValueError(f"{place}: nobody is named as its speaker ({' or '.join(ROLE_KEYS)})")
        yield from _pair(_first(item, _ASKS), _first(item, _ANSWERS), place)
        return
    role = role_of(speaker, place)
    if role == "user":
        for name in MEDIA:
            if item.get(name):
                raise ValueError(f"{place}: its {name} are no text")
    content = _first(item, CONTENT_KEYS)
    if isinstance(content, list) and any(_is_aside(part) for part in content):
        yield _Turn("tool", None, place)
        content = [part for part in content if not _is_aside(part)]
        if not content:
            return
    yield _Turn(role, content, place)


def role_of(speaker: Any, place: str) -> str:
    """system, user, assistant or tool; ValueError for a speaker that nobody knows."""
    name = speaker.strip().casefold() if isinstance(speaker, str) else ""
    role = _ROLE_OF.get(name) or ("assistant" if _GPT.fullmatch(name) else None)
    if role is None:
        valid = ", ".join(name for names in _ROLES.values() for name in names)
        raise ValueError(f"{place}: unknown role {speaker!r} (valid: {valid}, gpt...)")
    return role


def _first(item: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((item[key] for key in keys if item.get(key) is not None), None)


def _messages(items: Sequence[Any]) -> bool:
    return bool(items) and all(isinstance(item, dict) for item in items)


def _is_part(item: Any) -> bool:
    """Whether an item is a part of a message, {type: text, text: ...}, and no message."""
    return isinstance(item, dict) and "type" in item and _first(item, ROLE_KEYS) is None


def _is_aside(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in _ASIDE


def _transposed(value: Mapping[str, Any]) -> list[Any]:
    """A struct of lists, as `datasets` stores a list of structs, turned back; or the one turn."""
    columns = {key: column for key, column in value.items() if isinstance(column, list)}
    lengths = {len(column) for column in columns.values()}
    if len(lengths) == 1 and any(key in columns for key in ROLE_KEYS):
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [value]
