"""What changed since a table was made, in words: settings, code, and what it read.

A table is out of date by its hash alone (`state`); here the note beside it is compared with the
present, so that people are told which of their changes did it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from arena_assets.lake.lake import ALL

_SECTIONS: Final = ("stage_training", "testset_parts")  # named for what is in them
_TOLD = 4  # changes of one table that are told; the rest is counted


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A sentence a difference of what a table was made of and would be made of now.

    Empty where the note says nothing: it was written by an earlier version, or the file was
    changed by somebody else.
    """
    if not before:
        return []
    found = list(_settings(before["settings"], now["settings"]))
    if before["code"] != now["code"]:
        found.append(f"code {before['code']} -> {now['code']}")
    return [*found, *_inputs(before["inputs"], now["inputs"])]


def in_short(found: list[str]) -> str:
    """The first of some differences, and how many there are besides."""
    more = len(found) - _TOLD
    return "; ".join([*found[:_TOLD], *([f"and {more} more"] if more > 0 else [])])


def _settings(before: Any, now: Any, place: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted({*before, *now}):
            inside = place if name in _SECTIONS else f"{place}.{name}" if place else name
            yield from _settings(before.get(name), now.get(name), inside)
    elif before != now:
        yield f"{place} {_said(before)} -> {_said(now)}"


def _said(value: Any) -> str:
    """A value in few characters; what says nothing in an identity has its default."""
    text = "default" if value is None else str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _inputs(before: list[list[Any]], now: list[list[Any]]) -> Iterator[str]:
    """What is read by table and partition; of several parts of one each is held beside its like."""
    parts: dict[tuple[str, str, int], list[Any]] = {}
    for side, inputs in enumerate((before, now)):
        count: dict[tuple[str, str], int] = {}
        for table, partition, said in inputs:
            number = count[table, partition] = count.get((table, partition), 0) + 1
            parts.setdefault((table, partition, number), [None, None])[side] = (said,)
    for (table, partition, _), (old, new) in parts.items():
        name = table if partition == ALL else f"{table} of {partition}"
        if old is None or new is None:
            yield f"{name} {'no longer counts' if new is None else 'counts now'}"
        elif old != new:
            yield from _other(name, old[0], new[0])


def _other(name: str, before: Any, now: Any) -> Iterator[str]:
    """Of contestants and judges each by name; of anything else that there are other rows."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        yield f"{name} changed"
        return
    for who in sorted({*before, *now}):
        if who not in before:
            yield f"{who} is new"
        elif who not in now:
            yield f"{who} is gone"
        elif before[who] != now[who]:
            yield f"{who} changed"
