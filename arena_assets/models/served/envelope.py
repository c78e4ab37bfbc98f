"""What a chat-completions server sends with status 200, read as completions.

Nothing of its shape is taken for granted: a good answer under an odd envelope is kept, whatever is
none becomes a NoAnswer with its reason, and nothing else is ever raised. Read as JSON, not through
a client library's models, since those promise fields that servers leave out or fill otherwise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from arena_assets.models.engine import Completion, completed
from arena_assets.models.finish_reasons import BROKEN_OFF, stored_as
from arena_assets.models.served.problems import (
    NoAnswer,
    Passing,
    Refused,
    Rejected,
    Unusable,
    problem_of,
    storable,
)

_WRAPPERS = ("data", "result", "response", "output")
_LONGEST_REASON = 100


def parse(content: bytes, charset: str | None = None) -> Any:
    """The JSON value of a body; Passing where it is none, as a proxy's page is.

    A body of server-sent events is put together, although nobody asked for a stream.
    """
    try:
        text = content.decode(json.detect_encoding(content), "surrogatepass")
    except UnicodeDecodeError:
        text = _decoded(content, charset)
    try:
        # strict: raw line breaks in an answer are no reason to lose it; nor are integers of
        # thousands of digits, which Python refuses, in a field that nobody reads
        return json.loads(text, strict=False, parse_int=_integer)
    except (ValueError, RecursionError):
        if (events := _events(text)) is not None:
            return events
        raise Passing(f"not JSON: {storable(text[:200])!r}") from None


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) < 4000 else digits


def _decoded(content: bytes, charset: str | None) -> str:
    try:
        return content.decode(charset or "utf-8", "replace")
    except LookupError:
        return content.decode("utf-8", "replace")


def completions_of(
    body: Any, samples: int, sent: Mapping[str, Any] | None = None
) -> list[Completion | NoAnswer]:
    """What each choice came to, at most `samples` of them, in order; at least one.

    `body` is a parsed body, `sent` the request's. Raises NoAnswer where there is no choice at all.
    Tokens are unknown where the usage is, and are shared among the choices, as the API counts them
    together.
    """
    envelope = _unwrapped(body)
    if envelope.get("error"):
        raise _error_of(envelope, sent or {})
    choices = envelope.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Unusable(f"no choices in {_shown(body)}")
    chosen = _in_order(choices)[:samples]
    usage = envelope.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    prompt, written = (_tokens(usage.get(f"{kind}_tokens")) for kind in ("prompt", "completion"))
    return [
        _choice(
            choice,
            prompt if number == 0 or prompt is None else 0,
            None if written is None else written // len(chosen) + (number < written % len(chosen)),
            sent or {},
        )
        for number, choice in enumerate(chosen)
    ]


def model_of(body: Any) -> str | None:
    """The model that the server says it asked."""
    model = _unwrapped(body).get("model")
    return storable(model) if isinstance(model, str) else None


def _unwrapped(body: Any) -> dict[str, Any]:
    """The object with the choices: the body, or what a gateway has wrapped it in."""
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, dict):
        return {}
    if not body.get("choices") and not body.get("error"):
        for name in _WRAPPERS:
            inner = body.get(name)
            if isinstance(inner, dict) and (inner.get("choices") or inner.get("error")):
                return inner
    return body


def _in_order(choices: list[Any]) -> list[Any]:
    """By their index, where all have one of their own; else as they came."""
    indices: list[Any] = [
        choice.get("index") if isinstance(choice, dict) else None for choice in choices
    ]
    if all(type(index) is int for index in indices) and len(set(indices)) == len(indices):
        return [choices[place] for place in sorted(range(len(choices)), key=indices.__getitem__)]
    return choices


def _choice(
    choice: Any, prompt_tokens: int | None, tokens: int | None, sent: Mapping[str, Any]
) -> Completion | NoAnswer:
    if not isinstance(choice, dict):
        return Unusable(f"a choice that is none: {_shown(choice)}")
    if choice.get("error"):
        return _error_of(choice, sent)
    reason = _finish_reason(choice.get("finish_reason"))
    if reason in BROKEN_OFF:
        return Unusable(f"the server broke the answer off ({reason})")
    message: dict[str, Any] = next(
        (choice[k] for k in ("message", "delta") if _is_object(choice.get(k))), {}
    )
    try:
        text, reasoning = _text(message.get("content", choice.get("text")))
    except Rejected as problem:
        return problem
    except Refused as refused:
        return Completion(str(refused), "refused", prompt_tokens, tokens)
    refusal = message.get("refusal")
    if reason == "refused" or (isinstance(refusal, str) and refusal.strip()):
        words = refusal if isinstance(refusal, str) and refusal else text or ""
        return Completion(storable(words), "refused", prompt_tokens, tokens)
    apart = [message.get(name) for name in ("reasoning_content", "reasoning")]
    thoughts = next((said for said in apart if isinstance(said, str) and said), reasoning)
    if text is None and (called := message.get("tool_calls") or message.get("function_call")):
        return Rejected(f"the model called a tool instead of answering: {_shown(called)}")
    # "" is an answer where the model stopped by itself; nothing at all, not even a thought, is none
    if not (text or thoughts) and reason != "length" and (text is None or reason != "stop"):
        return Unusable(f"an answer without content ({reason})")
    return completed(
        storable(text or ""), reason, prompt_tokens, tokens, thoughts and storable(thoughts)
    )


def _finish_reason(given: Any) -> str:
    """A known reason under our name, another one as it is, "unknown" where none is given."""
    if not isinstance(given, str) or not given.strip():
        return "unknown"
    return stored_as(given) or storable(given.strip()[:_LONGEST_REASON])


def _text(content: Any) -> tuple[str | None, str]:
    """(the text of a message's content, the reasoning among its parts); None where it has none.

    Raises Rejected for parts that are no text, and Refused for a refusal among them.
    """
    if content is None or isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        inner = content.get("text", content.get("content")) if _is_object(content) else None
        # an object without text is the answer itself, parsed where its JSON was wanted
        return inner if isinstance(inner, str) else _source(content), ""
    texts, thoughts = [], []
    for part in content:
        kind = str(part.get("type", "text")) if _is_object(part) else "text"
        said = part if isinstance(part, str) else part.get("text") if _is_object(part) else None
        if kind in ("thinking", "reasoning"):
            thoughts.append(_thought(part))
        elif kind == "refusal":
            raise Refused(storable(str(part.get("refusal"))))
        elif isinstance(said, str):
            texts.append(said)
        else:
            raise Rejected(f"a part of the content is no text: {_shown(part)}")
    return ("".join(texts) if texts else None), "\n".join(thoughts)


def _thought(part: dict[str, Any]) -> str:
    """The text of a reasoning part, which Mistral writes as parts again."""
    said = part.get("thinking", part.get("text", part.get("reasoning")))
    inner = said if isinstance(said, list) else [said]
    texts = [piece.get("text") if _is_object(piece) else piece for piece in inner]
    return "".join(text for text in texts if isinstance(text, str))


def _tokens(given: Any) -> int | None:
    """A count of tokens, also one written as text or with a fraction; None where it is none."""
    try:
        count = float(given) if isinstance(given, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return None
    return round(count) if 0 <= count < 1e12 and not isinstance(given, bool) else None


def _error_of(holder: dict[str, Any], sent: Mapping[str, Any]) -> NoAnswer:
    """The problem in an `error` that came with status 200, by the code that it states."""
    error = holder["error"]
    code = _tokens(error.get("code", error.get("status"))) if _is_object(error) else None
    status = code if code and 400 <= code < 600 else 200
    return problem_of(status, {}, {"error": error}, _shown(error), sent)


def _events(text: str) -> dict[str, Any] | None:
    """The answer that a stream's events make up; None where it is none, or not to its end."""
    lines = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    choices: dict[Any, dict[str, Any]] = {}
    whole: dict[str, Any] = {}
    try:
        events = [json.loads(line) for line in lines if line != "[DONE]"]
        for event in events:
            whole |= {name: event[name] for name in ("usage", "model", "error") if event.get(name)}
            for choice in event.get("choices", ()):
                index = choice.get("index", 0)
                one = choices.setdefault(index, {"index": index, "message": {}})
                one["finish_reason"] = choice.get("finish_reason") or one.get("finish_reason")
                for name, piece in choice["delta"].items():
                    if isinstance(piece, str) and name != "role":
                        one["message"][name] = one["message"].get(name, "") + piece
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return None
    ended = "[DONE]" in lines or all(choice["finish_reason"] for choice in choices.values())
    return whole | {"choices": list(choices.values())} if lines and ended else None


def _source(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise Rejected("the content is nested too deeply") from None


def _shown(value: Any) -> str:
    try:
        return storable(_source(value)[:200])
    except Rejected:
        return "something nested too deeply"


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)
