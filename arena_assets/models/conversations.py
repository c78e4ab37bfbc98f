"""Conversations with an engine: asks and answers in turn, many at a time.

A contestant's dialogue of several turns and a judge's tries at one game are both generators that
yield an Ask, are sent its completions, and return what came of it. An engine that computes batches
(vLLM here, a recording) is asked in step: everybody's first ask, then everybody's second. An engine
whose answers come singly (servers) leads each conversation by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from arena_assets.config.models import Sampling
from arena_assets.models.engine import Completion, Engine, Request

T = TypeVar("T")
Conversation = Generator["Ask", list[Completion], T]
Arrived = Callable[[list[tuple[int, T]]], None]


@dataclass(frozen=True)
class Ask:
    """One request with how it is to be answered."""

    request: Request
    sampling: Sampling
    samples: int = 1
    json_schema: dict[str, Any] | None = None


@dataclass(frozen=True)
class Ended(Generic[T]):
    """A conversation's end, with what it came to."""

    result: T


@runtime_checkable
class ConversingEngine(Protocol):
    """An engine that leads conversations by itself and hands on each one as it ends."""

    def converse(self, conversations: Sequence[Conversation[T]], arrived: Arrived[T]) -> None: ...


def converse(engine: Engine, conversations: Sequence[Conversation[T]], arrived: Arrived[T]) -> None:
    """Lead conversations to their ends; `arrived` gets (position, result) of those that ended.

    Whatever is raised, BackendDown for one, is raised after all that came has been handed on.
    """
    if isinstance(engine, ConversingEngine):
        engine.converse(conversations, arrived)
        return
    steps = [(number, advance(each)) for number, each in enumerate(conversations)]
    while True:
        if ended := [(number, step.result) for number, step in steps if isinstance(step, Ended)]:
            arrived(ended)
        waiting = [(number, step) for number, step in steps if isinstance(step, Ask)]
        if not waiting:
            return
        steps = [
            (number, advance(conversations[number], completions))
            for number, completions in _answers(engine, waiting)
        ]


def once(ask: Ask) -> Conversation[list[Completion]]:
    """A conversation of one ask, which comes to its completions."""
    return (yield ask)


def nobody(ended: list[tuple[int, Any]]) -> None:
    """For those who wait for all of it."""


def advance(
    conversation: Conversation[T], completions: list[Completion] | None = None
) -> Ask | Ended[T]:
    """The next ask of a conversation, after the completions of the one before; or its end."""
    try:
        return next(conversation) if completions is None else conversation.send(completions)
    except StopIteration as end:
        return Ended(end.value)


def _answers(
    engine: Engine, waiting: Sequence[tuple[int, Ask]]
) -> list[tuple[int, list[Completion]]]:
    """Everybody's completions, in order; what is asked in the same way is asked together."""
    groups: dict[str, list[tuple[int, Ask]]] = {}
    for number, ask in waiting:
        alike = repr((ask.sampling, ask.samples, ask.json_schema))
        groups.setdefault(alike, []).append((number, ask))
    answered: list[tuple[int, list[Completion]]] = []
    for group in groups.values():
        way = group[0][1]
        requests = [ask.request for _, ask in group]
        completions = engine.chat(requests, way.sampling, way.samples, way.json_schema)
        answered += zip([number for number, _ in group], completions, strict=True)
    return sorted(answered, key=lambda pair: pair[0])
