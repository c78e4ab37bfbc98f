"""Asking for what a store lacks: batch by batch, and each result is kept as it comes.

Contestants' answers, judges' verdicts and ratings of difficulty are all made in this way. What is
in the store is not asked for again, and what has come is in the store at once: one by one from
servers, a batch at a time from vLLM here. So a run that is killed goes on where it was. Batches are
numbered before anything is looked up, and stay the same whatever is in the store already: what is
computed together decides the last bits of a number, and with them, now and then, a word.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import duckdb
import pyarrow as pa

from arena_assets.config.models import Sampling
from arena_assets.lake.store import Store
from arena_assets.models.conversations import Arrived, Ask, Conversation
from arena_assets.models.engine import BackendDown, Completion, total

T = TypeVar("T")
Row = dict[str, Any]

RETRY_TEMPERATURE = 0.7


@dataclass(frozen=True)
class Asking(Generic[T]):
    """Who asks whom for what, and what becomes of each result.

    `lead` asks for a batch of rows and hands on (position, result) as they come. `kept` makes the
    store's row of a row, its result and the seconds it took; None is not stored and is asked for
    again the next time. In words, `results` is what has come ("2 answers"), `said` how far it is
    after so many rows and seconds.
    """

    who: str
    results: Callable[[], str]
    store: Store
    lead: Callable[[Sequence[Row], Arrived[T]], None]
    kept: Callable[[Row, T, float], Row | None]
    said: Callable[[int, float], str]

    def ask(self, batches: Iterable[Sequence[Row]], log: Callable[[str], None]) -> None:
        """Ask for all batches; the store is locked by the caller.

        Raises BackendDown where the backend is gone; what came before is kept.
        """
        done, began = 0, time.monotonic()
        for rows in batches:
            try:
                self._ask(rows)
            except BackendDown as down:
                raise BackendDown(
                    f"{self.who}: {down}; {self.results()} that came before are kept, mend "
                    "the backend and materialize again"
                ) from down
            done += len(rows)
            log(f"{self.who}: {self.said(done, time.monotonic() - began)}")

    def _ask(self, rows: Sequence[Row]) -> None:
        clock = time.monotonic()
        with self.store.collecting() as keep:

            def arrived(ended: list[tuple[int, T]]) -> None:
                nonlocal clock
                before, clock = clock, time.monotonic()
                seconds = (clock - before) / len(ended)
                made = [self.kept(rows[number], result, seconds) for number, result in ended]
                keep([row for row in made if row is not None])

            self.lead(rows, arrived)


def create_missing(connection: duckdb.DuckDBPyConnection, store: Store, wanted: str) -> int:
    """The table `todo`: the rows of `wanted` whose key the store lacks; how many.

    `wanted` is a view or a query in parentheses with the store's key and `batch`; of rows that
    share a key, the one in the earliest batch is taken. What the store holds is the view `stored`.
    """
    store.create_view(connection, "stored")
    connection.execute(
        f"""
        create or replace temp table todo as
        select * from {wanted}
        where {store.key} not in (select {store.key} from stored)
        qualify row_number() over (partition by {store.key} order by batch) = 1
        """
    )
    return connection.execute("select count(*) from todo").fetchall()[0][0]


def batches_of(reader: pa.RecordBatchReader) -> Iterator[list[Row]]:
    """Rows that are ordered by their column `batch`, a list a batch."""
    rows = (row for part in reader for row in part.to_pylist())
    for _, batch in itertools.groupby(rows, key=lambda row: row["batch"]):
        yield list(batch)


@dataclass(frozen=True)
class Tried(Generic[T]):
    """What the last try came to, and the tokens of all of them (None: unknown)."""

    result: T
    reasoning: str | None
    attempts: int
    prompt_tokens: int | None
    completion_tokens: int | None


def tries(
    attempts: int,
    ask: Callable[[int], Ask],
    read: Callable[[Completion], T],
    usable: Callable[[T], bool],
) -> Conversation[Tried[T]]:
    """Ask until what is read can be used, the backend fails or its filter acts.

    `ask` makes the request of each attempt, from 1; see `attempt_sampling`.
    """
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    for attempt in itertools.count(1):
        (completion,) = yield ask(attempt)
        prompt_tokens = total(prompt_tokens, completion.prompt_tokens)
        completion_tokens = total(completion_tokens, completion.completion_tokens)
        result = read(completion)
        final = completion.error is not None or completion.finish_reason == "refused"
        if final or usable(result) or attempt == attempts:
            break
    return Tried(result, completion.reasoning, attempt, prompt_tokens, completion_tokens)


def attempt_sampling(sampling: Sampling, attempt: int) -> Sampling:
    """The first attempt's is the given one. Greedy output would fail the same way again, and so
    would the same seed's, so a retry draws at random with a seed of its own.

    >>> attempt_sampling(Sampling(), 2).temperature
    0.7
    """
    if attempt == 1:
        return sampling
    return sampling.model_copy(
        update={
            "temperature": sampling.temperature or RETRY_TEMPERATURE,
            "seed": (sampling.seed or 0) + attempt,
        }
    )
