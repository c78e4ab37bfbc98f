"""Which tests are slow: told by what they use, so that nobody has to mark them.

Slow is what starts a process (dbt, a server, `arena`), a browser, a model of real weights or a run
of Dagster, itself or through functions and fixtures of the tests. `make test-fast` leaves those
out, and what carries the mark `slow` by hand: simulations, servers that let
others wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType

import pytest

SLOW = {
    *("subprocess", "sync_playwright", "execute_in_process", "materialize"),
    *("load_encoder", "torch", "transformers", "trl", "vllm"),
}
HERE = Path(__file__).parent


def is_slow(test: pytest.Function) -> bool:
    """Whether a test, or a function of the tests that it leads to, names what is slow."""
    fixtures = test._fixtureinfo.name2fixturedefs.values()
    waiting = [test.function, *(made.func for several in fixtures for made in several)]
    seen: set[FunctionType] = set()
    while waiting:
        function = waiting.pop()
        if not isinstance(function, FunctionType) or function in seen:
            continue
        seen.add(function)
        if Path(function.__code__.co_filename).parent != HERE:
            continue
        names = set(_names(function.__code__))
        if names & SLOW:
            return True
        waiting += [function.__globals__[name] for name in names & function.__globals__.keys()]
    return False


def _names(code: CodeType) -> Iterator[str]:
    """The names that a function uses, those within its inner functions too."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)
