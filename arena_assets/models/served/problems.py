"""What a server says where it gives no answer, and what follows from it.

Four things can follow: another server or another time may bring the answer (Passing); the request
itself is at fault (Rejected); a content filter has decided (Refused); or the server will say the
same to every request until the profile is mended (Misconfigured).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeGuard

WORDS = 300  # characters of a server's message that are passed on


class NoAnswer(Exception):
    """A request that got no answer; the message is a sentence for the row or the person."""


class Passing(NoAnswer):
    """Another server or another time may bring it; `wait` is the Retry-After in seconds."""

    def __init__(self, message: str, wait: float | None = None):
        super().__init__(message)
        self.wait = wait


class Unreachable(Passing):
    """Nothing came back at all: no connection, or one that broke."""


class TimedOut(Unreachable):
    """Nothing came back in the time that a request has."""


class Unusable(Passing):
    """The server is well and sent what is no answer; the next try may be better."""


class Rejected(NoAnswer):
    """The request's own fault, or an answer that is none: asking again is no use."""


class Refused(NoAnswer):
    """A content filter's decision, which is final."""


class Misconfigured(NoAnswer):
    """What the server would say to every request; the message has the likely mend."""


# A refusal is kept for ever, so words count only where they are those of a filter.
_FILTER_CODE = re.compile(
    r"content_?filter|content_polic|policy_?violation|moderation|responsibleai|safety_block", re.I
)
_FILTER_WORDS = re.compile(
    r"content management policy|content polic(y|ies)|safety system|content filter"
    r"|(was|were|been) flagged|flagged (by|for|as)|requires moderation|moderation (system|filter)"
    r"|blocked by .{0,40}(safety|moderation|guardrail)",
    re.I,
)
_FILTER_STATUS = (200, 400, 403, 422, 451)
# not by its words: "You exceeded your current quota" is also said by those who limit a minute's
_QUOTA_CODE = re.compile(r"insufficient_(quota|credit|balance|fund)|billing", re.I)
_CONTEXT = re.compile(
    r"context[ _](length|window|size)|available context|exceed_context|context_length"
    r"|max_model_len|reduce the length|string_above_max_length"
    r"|(prompt|input|request|message).{0,60}(too (long|large|many tokens)|exceed)|too many tokens",
    re.I,
)
_UNSUPPORTED = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not (permitted|allowed|available)"
    r"|extra (input|field)|extra_forbidden|cannot (both )?be|must be|at most|too large|maximum"
    r"|invalid|deprecated|mutually exclusive",
    re.I,
)
_TOO_MUCH = re.compile(r"at most|too large|maximum|less than|exceed", re.I)
_NO_SYSTEM = re.compile(
    r"system.{0,3} (role|message|prompt|instruction)s?\b.{0,30}not|not support\W+system", re.I
)
_ONE_CHOICE = re.compile(r"only one (completion )?choice|multiple (choices|completions)", re.I)
_KEY_MEND = "endpoint.api_key_env has to name the environment variable with the right key"
_HTTPS_PORT = re.compile(r"http request (was sent )?to (an )?https", re.I)


def problem_of(
    status: int,
    headers: Mapping[str, str],
    body: Any,
    text: str,
    sent: Mapping[str, Any],
) -> NoAnswer:
    """What follows from an answer with this status; 200 stands for an `error` without a code.

    `body` is the parsed `text`, None where it is no JSON; `sent` the request's body, in which the
    parameter at fault is looked for.
    """
    said = _Said(body, text)
    everything = f"{said.codes} {said.message}"
    what = f"{status}: {said.message or 'without a message'}"
    if status in _FILTER_STATUS and said.filtered:
        return Refused(said.message)
    if status == 402 or (status in (403, 429) and _QUOTA_CODE.search(said.codes)):
        return Misconfigured(f"{what}; the account has no credit left")
    if status in (401, 403):
        return Misconfigured(f"{what}; {_KEY_MEND}")
    if status in (404, 405, 410):
        return Misconfigured(f"{what}; {_place_mend(said.message)}")
    if 300 <= status < 400:
        base = _plain(headers.get("location", "")).split("/chat/completions")[0] or "nowhere"
        return Misconfigured(f"{status}: a redirection to {base}, which endpoint.urls should name")
    if status in (408, 409, 425, 429) or status >= 500:
        return Passing(what, retry_after(headers))
    if _CONTEXT.search(everything):
        return Rejected(what)
    if _HTTPS_PORT.search(said.message):
        return Misconfigured(f"{what}; endpoint.urls has to say https://")
    if status in (400, 422) and (mend := _parameter_mend(said, sent)):
        return Misconfigured(f"{what}; {mend}")
    return Unusable(what) if status < 300 else Rejected(what)


class _Said:
    """The parts of an error body, whatever its shape."""

    def __init__(self, body: Any, text: str):
        outer = body if isinstance(body, dict) else {}
        error, detail = outer.get("error"), outer.get("detail")
        inner = error if isinstance(error, dict) else outer
        # FastAPI's list of what is wrong where
        faults = [fault for fault in detail if isinstance(fault, dict)] if _is_list(detail) else []
        places = [fault["loc"] for fault in faults if _is_list(fault.get("loc"))]
        told = [inner.get("message"), error, detail, *(fault.get("msg") for fault in faults)]
        self.message = _plain(next((said for said in told if isinstance(said, str)), text))
        self.parameters = {str(place[-1]) for place in places if place}
        if isinstance(inner.get("param"), str):
            self.parameters.add(inner["param"].split(".")[0])
        innermost = inner.get("innererror")
        kinds = [inner, outer, innermost if isinstance(innermost, dict) else {}, *faults]
        codes = [kind.get(name) for kind in kinds for name in ("code", "type")]
        self.codes = " ".join(str(code)[:WORDS] for code in codes if isinstance(code, str | int))
        metadata = inner.get("metadata")
        self.filtered = bool(
            _FILTER_CODE.search(self.codes)
            or _FILTER_WORDS.search(self.message)
            or (isinstance(metadata, dict) and "flagged_input" in metadata)
        )


def _parameter_mend(said: _Said, sent: Mapping[str, Any]) -> str | None:
    """How not to send what the server cannot take; None where the fault is another one."""
    roles = [message["role"] for message in sent.get("messages", ())]
    if "system" in roles and _NO_SYSTEM.search(said.message):
        return "endpoint.system_role: false puts the system prompt into the first user turn"
    if "n" in sent and _ONE_CHOICE.search(said.message):
        return "endpoint.parameters: {n: null} asks for one answer at a time"
    ours = sent.keys() - {"messages", "model"}
    found = ours & said.parameters
    if not said.parameters:  # in prose, a single letter is no parameter
        found = {
            name
            for name in ours
            if len(name) > 1 and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said.message)
        }
    if not found or not _UNSUPPORTED.search(f"{said.codes} {said.message}"):
        return None
    name = "top_p" if {"temperature", "top_p"} <= found else max(found, key=len)
    if name in ("seed", "response_format"):
        setting = "seeds" if name == "seed" else "structured_outputs"
        return f"endpoint.{setting}: false leaves {name} out"
    if renamed := re.search(r"[Uu]se \W?(\w+)\W? instead", said.message):
        return f"endpoint.parameters: {{{name}: {renamed[1]}}} renames it"
    if "tokens" in name and _TOO_MUCH.search(said.message):
        return "lower sampling.max_tokens"
    return f"endpoint.parameters: {{{name}: null}} leaves it out (or take it out of extra_body)"


def _place_mend(message: str) -> str:
    if re.search(r"model", message, re.I):
        return "endpoint.model has to be a name that the server knows; GET .../models lists them"
    return "there is no such API; most addresses in endpoint.urls end in /v1"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After asks to wait, from a number or a date; None where it asks not."""
    given = headers.get("retry-after", "")
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(given).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return None
    return seconds if 0 < seconds < math.inf else None


def storable(text: str) -> str:
    """Text that UTF-8 can carry: a lone surrogate becomes the replacement character.

    >>> storable("half a smile: \\ud83d!")
    'half a smile: \ufffd!'
    """
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _plain(text: str) -> str:
    """A message on one line, without mark-up, and short."""
    text = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text[:10_000], flags=re.I | re.S)
    return storable(" ".join(text.split()))[:WORDS]


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
