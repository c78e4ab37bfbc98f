"""Conversations with an engine: asks and answers in turn, many at a time.

A contestant's dialogue of several turns and a judge's tries at one game are both generators that
yield an Ask, are sent its completions, and return what came of it. An engine that computes batches
(vLLM here, a recording) is asked in step: everybody's first ask, then everybody's second. An engine
whose answers come singly (servers) leads each conversation by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

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
    steps = [(number, *advance(each)) for number, each in enumerate(conversations)]
    while True:
        if ended := [(number, result) for number, ask, result in steps if ask is None]:
            arrived(ended)
        waiting = [(number, ask) for number, ask, _ in steps if ask is not None]
        if not waiting:
            return
        steps = [
            (number, *advance(conversations[number], completions))
            for number, completions in _answers(engine, waiting)
        ]


def once(ask: Ask) -> Conversation[list[Completion]]:
    """A conversation of one ask, which comes to its completions."""
    return (yield ask)


def nobody(ended: list[tuple[int, Any]]) -> None:
    """For those who wait for all of it."""


def advance(
    conversation: Conversation[T], completions: list[Completion] | None = None
) -> tuple[Ask | None, T | None]:
    """The next ask of a conversation and None, or None and its result where it has ended."""
    try:
        return conversation.send(completions), None
    except StopIteration as end:
        return None, end.value


def _answers(
    engine: Engine, waiting: Sequence[tuple[int, Ask]]
) -> list[tuple[int, list[Completion]]]:
    """Everybody's completions, in order; what is asked in the same way is asked together."""
    groups: dict[str, list[tuple[int, Ask]]] = {}
    for number, ask in waiting:
        alike = repr((ask.sampling, ask.samples, ask.json_schema))
        groups.setdefault(alike, []).append((number, ask))
    answered = []
    for group in groups.values():
        way = group[0][1]
        requests = [ask.request for _, ask in group]
        completions = engine.chat(requests, way.sampling, way.samples, way.json_schema)
        answered += zip([number for number, _ in group], completions, strict=True)
    return sorted(answered, key=lambda pair: pair[0])
