"""What servers do beside the API's letter, each with what is right for the row that meets it.

`BODIES` change a good answer, `STATUSES` are answers of another status, `WIRE` are good answers
that travel oddly. The wording is ours; the shapes are those of servers, gateways and hosted APIs.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

Body = dict[str, Any]
Change = Callable[[Body], Any]

ANSWER, REFUSED, FAILED = "ok", "refused", "failed"


def message(**changes: Any) -> Change:
    """Every choice's message with these changes; `finish` is its finish reason."""

    def change(body: Body) -> Body:
        more = dict(changes)
        finish = more.pop("finish", "stop")
        for choice in body["choices"]:
            said = choice["message"]["content"]
            choice["message"] |= {k: v(said) if callable(v) else v for k, v in more.items()}
            choice["finish_reason"] = finish
        return body

    return change


def choices(change: Callable[[list[Body]], Any]) -> Change:
    return lambda body: body | {"choices": change(body["choices"])}


def without(name: str) -> Change:
    return lambda body: {key: value for key, value in body.items() if key != name}


def usage(**counts: Any) -> Change:
    return lambda body: body | {"usage": counts or None}


def as_text(choice: Body) -> Body:
    return {"index": choice["index"], "text": choice["message"]["content"], "finish_reason": "stop"}


def _moved(choice: Body, name: str) -> Body:
    return {"index": choice["index"], name: choice["message"], "finish_reason": "stop"}


def parts(said: str) -> list[Body]:
    return [{"type": "text", "text": said[:5]}, {"type": "text", "text": said[5:]}]


def mistral(said: str) -> list[Body]:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Let me count."}]}
    return [thought, {"type": "text", "text": said}]


CALL = {"id": "c", "type": "function", "function": {"name": "say", "arguments": "{}"}}

BODIES: dict[str, tuple[Change, str]] = {
    # content that is no string
    "content in parts": (message(content=parts), ANSWER),
    "content as strings in a list": (message(content=lambda said: [said[:3], said[3:]]), ANSWER),
    "content as an object": (message(content=lambda said: {"text": said}), ANSWER),
    "content as a bare object": (message(content=lambda said: {"said": said}), ANSWER),
    "content as a number": (message(content=42), ANSWER),
    "an image in the content": (message(content=[{"type": "image_url", "image_url": {}}]), FAILED),
    "nothing but an empty list": (message(content=[]), FAILED),
    "a refusal part": (message(content=[{"type": "refusal", "refusal": "No."}]), REFUSED),
    "a lone surrogate": (message(content=lambda said: f"\ud83d {said}"), ANSWER),
    "a NUL": (message(content=lambda said: f"{said}\x00"), ANSWER),
    "a very long answer": (message(content=lambda said: said + " word" * 200_000), ANSWER),
    # reasoning
    "reasoning_content": (message(reasoning_content="Hm. {no json}"), ANSWER),
    "reasoning": (message(reasoning="Hm.", reasoning_details=[{"text": "Hm."}]), ANSWER),
    "thinking tags": (message(content=lambda said: f"<think>\nHm.\n</think>\n\n{said}"), ANSWER),
    "thinking parts": (message(content=mistral), ANSWER),
    "a thought without an end": (message(content="<think>Hm. So", finish="length"), FAILED),
    "cut off while reasoning": (
        message(content=None, reasoning="I was still at it", finish="length"),
        FAILED,
    ),
    "a thought and no answer": (message(content="", reasoning_content="Hm."), FAILED),
    "only a thought": (message(content=None, reasoning_content="Hm."), FAILED),
    # nothing said
    "an empty answer": (message(content=""), ANSWER),
    "no content": (message(content=None), FAILED),
    "empty and cut off": (message(content="", finish="length"), FAILED),
    "empty without a reason": (message(content="", finish=None), FAILED),
    "a tool call": (message(content=None, tool_calls=[CALL], finish="tool_calls"), FAILED),
    "a function call": (message(content=None, function_call={"name": "say"}), FAILED),
    # finish reasons
    "finish null": (message(finish=None), ANSWER),
    "finish empty": (message(finish=""), ANSWER),
    "finish missing": (
        choices(lambda given: [{"message": choice["message"]} for choice in given]),
        ANSWER,
    ),
    "finish eos": (message(finish="eos"), ANSWER),
    "finish eos_token": (message(finish="eos_token"), ANSWER),
    "finish end_turn": (message(finish="end_turn"), ANSWER),
    "finish STOP": (message(finish="STOP"), ANSWER),
    "finish max_tokens": (message(finish="MAX_TOKENS"), ANSWER),
    "finish tool_calls": (message(finish="tool_calls"), ANSWER),
    "finish new": (message(finish="repetition"), ANSWER),
    "finish object": (message(finish={"type": "stop"}), ANSWER),
    "finish abort": (message(finish="abort"), FAILED),
    # refusals
    "content filter": (message(content="", finish="content_filter"), REFUSED),
    "half an answer filtered": (message(content="Half of", finish="content_filter"), REFUSED),
    "safety": (message(content=None, finish="SAFETY"), REFUSED),
    "a refusal": (message(content=None, refusal="I would rather not."), REFUSED),
    "an empty refusal": (message(refusal=""), ANSWER),
    # choices
    "no choices": (choices(lambda given: []), FAILED),
    "choices null": (choices(lambda given: None), FAILED),
    "choices missing": (without("choices"), FAILED),
    "choices an object": (choices(lambda given: {"0": given[0]}), FAILED),
    "choices no objects": (choices(lambda given: ["one"]), FAILED),
    "out of order": (choices(lambda given: given[::-1]), ANSWER),
    "without an index": (
        choices(lambda given: [_moved(c, "message") | {"index": None} for c in given]),
        ANSWER,
    ),
    "the same index": (choices(lambda given: [c | {"index": 0} for c in given]), ANSWER),
    "too many": (choices(lambda given: given * 3), ANSWER),
    "completions": (choices(lambda given: [as_text(choice) for choice in given]), ANSWER),
    "delta": (choices(lambda given: [_moved(choice, "delta") for choice in given]), ANSWER),
    "message null": (choices(lambda given: [c | {"message": None} for c in given]), FAILED),
    "message a text": (choices(lambda given: [c | {"message": "Hi"} for c in given]), FAILED),
    # usage
    "no usage": (without("usage"), ANSWER),
    "usage null": (usage(), ANSWER),
    "usage in part": (usage(total_tokens=31), ANSWER),
    "usage nonsense": (usage(prompt_tokens="many", completion_tokens=-1), ANSWER),
    "usage as text": (usage(prompt_tokens="20", completion_tokens="10"), ANSWER),
    "usage with fractions": (usage(prompt_tokens=20.4, completion_tokens=10.0), ANSWER),
    # errors with status 200
    "error in a 200": (lambda body: {"error": {"message": "busy", "code": 429}}, FAILED),
    "error as a text": (lambda body: {"error": "upstream is gone"}, FAILED),
    "error beside null content": (
        lambda body: message(content=None)(body) | {"error": {"message": "upstream"}},
        FAILED,
    ),
    "error null": (lambda body: body | {"error": None}, ANSWER),
    "error in a choice": (
        choices(lambda given: [c | {"error": {"code": 502, "message": "gone"}} for c in given]),
        FAILED,
    ),
    "filter in a 200": (
        lambda body: {"error": {"code": "content_filter", "message": "No."}},
        REFUSED,
    ),
    # envelopes
    "another model": (lambda body: body | {"model": "another-1b"}, ANSWER),
    "a list around it": (lambda body: [body], ANSWER),
    "data around it": (lambda body: {"code": 0, "data": body}, ANSWER),
    "null": (lambda body: None, FAILED),
    "a text": (lambda body: "Please sign in.", FAILED),
    "a number": (lambda body: 7, FAILED),
    "an empty list": (lambda body: [], FAILED),
}


def _error(text: str, **more: Any) -> Body:
    return {"error": {"message": text, "type": "invalid_request_error"} | more}


# status, body, and what is right: a row's state, or words of the sentence that stops the run
STATUSES: dict[str, tuple[int, Any, str]] = {
    "context too short": (
        400,
        _error("This model's maximum context length is 64 tokens, 'max_tokens' is too large."),
        FAILED,
    ),
    "context, llama.cpp": (
        400,
        _error("request (90 tokens) exceeds the available size", type="exceed_context_size_error"),
        FAILED,
    ),
    "too large": (413, "<html><title>413 Entity Too Large</title></html>", FAILED),
    "a bad request": (400, "", FAILED),
    "a bad message": (
        400,
        _error("Invalid 'messages[1].content': empty", param="messages"),
        FAILED,
    ),
    "filter, Azure": (
        400,
        _error("Filtered.", code="content_filter", innererror={"code": "ResponsibleAIPolicy"}),
        REFUSED,
    ),
    "filter, OpenAI": (400, _error("Rejected by the safety system."), REFUSED),
    "filter, by code": (400, _error("Rejected.", code="content_policy_violation"), REFUSED),
    "moderation": (
        403,
        _error("Your input was flagged", metadata={"reasons": ["x"], "flagged_input": "?"}),
        REFUSED,
    ),
    "overloaded": (529, _error("Overloaded"), FAILED),
    "loading": (503, _error("Loading model"), FAILED),
    "a gateway's page": (502, "<html><h1>502 Bad Gateway</h1></html>", FAILED),
    "a limit like a quota": (429, _error("You exceeded your current quota", code=429), FAILED),
    "nothing": (204, "", FAILED),
    # what every request would be told
    "no key": (401, _error("Incorrect API key"), "api_key_env"),
    "not allowed": (403, _error("You may not sample from this model"), "api_key_env"),
    "no money": (402, _error("Insufficient credits"), "no credit"),
    "no quota": (429, _error("Quota.", code="insufficient_quota"), "no credit"),
    "no model": (404, _error("The model `any` does not exist"), "endpoint.model"),
    "no such path": (404, {"detail": "Not Found"}, "/v1"),
    "moved": (307, "", "redirection"),
    "max_tokens": (
        400,
        _error(
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            param="max_tokens",
        ),
        "{max_tokens: max_completion_tokens}",
    ),
    "max_tokens too many": (
        400,
        _error("max_tokens: 90000 is more than the maximum allowed, 8192"),
        "lower sampling.max_tokens",
    ),
    "temperature": (
        400,
        _error("'temperature' does not support 0.5", param="temperature", code="unsupported_value"),
        "{temperature: null}",
    ),
    "one of two": (400, _error("temperature and top_p cannot both be given"), "null}"),
    "seed": (400, _error("Unrecognized request argument supplied: seed"), "endpoint.seeds: false"),
    "one choice": (400, _error("Only one completion choice is allowed"), "{n: null}"),
    "n, FastAPI": (
        422,
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "n"], "msg": "Extra inputs"}]},
        "{n: null}",
    ),
    "no system role": (400, _error("System role not supported"), "system_role: false"),
    "system role, o1": (
        400,
        _error("'messages[0].role' does not support 'system' with this model"),
        "system_role: false",
    ),
    "extra": (400, _error("Unknown parameter: 'top_k'", param="top_k"), "extra_body"),
    "plain to TLS": (400, "The plain HTTP request was sent to HTTPS port", "https://"),
}


def _json(body: Body) -> bytes:
    return json.dumps(body).encode()


def _stream(body: Body) -> bytes:
    said = body["choices"][0]["message"]["content"]
    pieces = [{"role": "assistant", "content": said[:4]}, {"content": said[4:]}, {}]
    lines = [{"choices": [{"index": 0, "delta": piece}]} for piece in pieces]
    return b"".join(b"data: " + _json(line) + b"\n\n" for line in lines) + b"data: [DONE]\n\n"


# the bytes of a good answer, the headers, and what is right
WIRE: dict[str, tuple[Callable[[Body], bytes], dict[str, str], str]] = {
    "blanks before it": (lambda body: b"\n\n  \n" + _json(body), {}, ANSWER),
    "as text/plain": (_json, {"Content-Type": "text/plain"}, ANSWER),
    "a byte order mark": (lambda body: b"\xef\xbb\xbf" + _json(body), {}, ANSWER),
    "UTF-16": (lambda body: json.dumps(body).encode("utf-16"), {}, ANSWER),
    "zipped": (lambda body: gzip.compress(_json(body)), {"Content-Encoding": "gzip"}, ANSWER),
    "zipped, it says": (_json, {"Content-Encoding": "gzip"}, FAILED),
    "Latin-1": (
        lambda body: _json(body).replace(b'"assistant"', b'"\xe0ssistant"'),
        {"Content-Type": "application/json; charset=latin-1"},
        ANSWER,
    ),
    "an unknown charset": (
        lambda body: _json(body).replace(b'"assistant"', b'"\xffssistant"'),
        {"Content-Type": "application/json; charset=klingon"},
        ANSWER,
    ),
    "NaN": (lambda body: _json(body | {"logprob": float("nan")}), {}, ANSWER),
    "a number of 5000 digits": (
        lambda body: _json(body).replace(b'"created": 0', b'"created": ' + b"1" * 5000),
        {},
        ANSWER,
    ),
    "a raw line break": (
        lambda body: _json(body).replace(b'"assistant"', b'"assi\nstant"'),
        {},
        ANSWER,
    ),
    "a stream": (_stream, {"Content-Type": "text/event-stream"}, ANSWER),
    "half a stream": (lambda body: _stream(body)[:60], {}, FAILED),
    "very deep": (lambda body: b"[" * 100_000, {}, FAILED),
}
