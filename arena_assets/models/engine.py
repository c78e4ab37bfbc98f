"""What answers conversations, behind one small interface: requests go in, completions come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from arena_assets.config.models import Sampling
from arena_assets.models.dialogue import Message
from arena_assets.models.reasoning import split_reasoning


@dataclass(frozen=True)
class Request:
    """A conversation that waits for an answer; `turn` counts the answers that it already has."""

    prompt_id: str
    messages: list[Message]
    turn: int = 0


@dataclass(frozen=True)
class Completion:
    """One answer, or the reason why there is none.

    `finish_reason` is "stop", "length" (cut off at max_tokens), "recorded", "refused" (a content
    filter), "error" (with `error`, and without text), "unknown", or a server's own word where it
    is none of the known ones. `reasoning` is what the model thought before it answered. Tokens are
    those that were paid for with this sample, None where nobody says: samples of one call share a
    prompt, which counts with the first. `dtype` is the number type that the model computed in, None
    where nobody says.
    """

    text: str
    finish_reason: str
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    error: str | None = None
    reasoning: str | None = None
    dtype: str | None = None


def completed(
    text: str,
    finish_reason: str,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    reasoning: str | None = None,
    dtype: str | None = None,
) -> Completion:
    """What a model said, with its reasoning apart; `reasoning` is what a server split off already.

    The text is empty where the model did nothing but think. `dtype` is what the model computed in.
    """
    thought, answer = split_reasoning(text)
    thoughts = "\n\n".join(part for part in (reasoning, thought) if part) or None
    return Completion(
        answer, finish_reason, prompt_tokens, completion_tokens, None, thoughts, dtype
    )


def total(*tokens: int | None) -> int | None:
    """A sum of tokens; unknown where a part is."""
    known = [count for count in tokens if count is not None]
    return sum(known) if len(known) == len(tokens) else None


class Engine(Protocol):
    """Answers requests; the result has one list of `samples` completions a request, in order.

    What goes wrong with a single request is a completion of its own. An engine that cannot go on at
    all raises BackendDown.
    """

    def chat(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        samples: int = 1,
        json_schema: dict[str, Any] | None = None,
    ) -> list[list[Completion]]: ...


class BackendDown(RuntimeError):
    """The backend is gone or refuses everybody, and going on is no use; says why, in a sentence."""
