"""Games: every pair of responses to a prompt meets twice, with the order swapped.

Which games there are, their keys and what the store holds of them is worked out in DuckDB; texts
are read only for games that have to be judged, batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import duckdb
import pyarrow as pa

from arena_assets.judging.verdicts import BACKEND_ERROR, Verdict
from arena_assets.lake.lake import Lake
from arena_assets.lake.store import Store, content_key_sql
from arena_assets.lake.tables import JUDGMENTS
from arena_assets.models.asking import Asking, Row, batches_of, create_missing
from arena_assets.models.conversations import Arrived, nobody
from arena_assets.models.dialogue import Message

STORE_SCHEMA = pa.schema(
    [
        ("judgment_id", pa.string()),
        ("status", pa.string()),
        ("failure", pa.string()),
        ("score_a", pa.float64()),
        ("score_b", pa.float64()),
        ("explanation", pa.string()),
        ("raw", pa.string()),
        ("reasoning", pa.string()),
        ("attempts", pa.int64()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("seconds", pa.float64()),  # since the verdicts before, shared
    ]
)
_ROWS = 10_000  # rows an Arrow batch


@dataclass(frozen=True)
class Game:
    """Two responses to one prompt in one order, all that a judge gets to see."""

    judgment_id: str
    prompt_id: str
    messages: list[Message]
    constraints: str
    reference: str | None
    text_a: str
    text_b: str
    turns_a: list[str]
    turns_b: list[str]


class Judge(Protocol):
    """Scores games.

    `key` is the hash of all that determines a verdict but the game; `abstains_for` the digest of
    the weights whose battles the judge stays out of, or None.
    """

    name: str
    version: str

    @property
    def key(self) -> str: ...

    @property
    def abstains_for(self) -> str | None: ...

    def judge(self, games: Sequence[Game], arrived: Arrived[Verdict] = nobody) -> list[Verdict]:
        """A verdict a game; `arrived` gets (position, verdict) of each as soon as it is there."""
        ...


@dataclass(frozen=True)
class AwaitedJudge:
    """A judge whose model is not there yet: it can be planned with, not asked."""

    name: str


@dataclass(frozen=True)
class Seat:
    """What a judge's verdicts count for: deciding, juror (with the jury and a weight) or shadow."""

    role: str
    jury: str | None = None
    weight: float = 1.0


def open_store(lake: Lake, judge: Judge) -> Store:
    """The stored verdicts of a judge; all rounds share them."""
    return Store(lake.store("judgments") / judge.key, STORE_SCHEMA, "judgment_id")


class Games:
    """Both games of some battles before one judge.

    `connection` has the views `responses` and `prompts` and the table `answers` (judging.draw makes
    it). `failures` takes what the judge's backend refused, by judgment_id: such games are failed in
    the table, but not in the store, and are judged the next time.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        battles: pa.Table,
        judge: Judge,
        store: Store,
        batch: int,
        failures: dict[str, Verdict],
    ):
        self.connection = connection
        self.judge = judge
        self.store = store
        self.failures = failures
        connection.register("battles", battles)
        key = content_key_sql("$judge_key", "a.prompt_digest", "a.text_digest", "b.text_digest")
        # one order for all games, so that batches are the same whatever is in the store already
        connection.execute(
            f"""
            create or replace temp table games as
            with sides as (
                select prompt_id, first, second, 1 as game, first as contestant_a,
                       second as contestant_b from battles
                union all
                select prompt_id, first, second, 2, second, first from battles
            )
            select sides.*, a.response_id as response_a, b.response_id as response_b,
                   {key} as judgment_id,
                   coalesce($abstains_for in (a.model_digest, b.model_digest)
                            or ($abstains_for is not null
                                and $judge in (sides.contestant_a, sides.contestant_b)),
                            false) as abstains,
                   (row_number() over (order by sides.prompt_id, first, second, game) - 1) // $batch
                       as batch
            from sides
            join answers as a
              on a.prompt_id = sides.prompt_id and a.contestant = sides.contestant_a
            join answers as b
              on b.prompt_id = sides.prompt_id and b.contestant = sides.contestant_b
            """,
            {
                "judge_key": judge.key,
                "judge": judge.name,
                "abstains_for": judge.abstains_for,
                "batch": batch,
            },
        )

    def judge_missing(self, log: Callable[[str], None]) -> int:
        """Judge what the store lacks; how many games that were.

        Every verdict is stored as it comes. Raises BackendDown where the backend is gone.
        """
        with self.store.locked(log):
            if waiting := self.waiting():

                def said(done: int, seconds: float) -> str:
                    pace = f", {done / seconds:.1f} games/s" if seconds > 1 else ""
                    return f"{done}/{waiting} games{pace}"

                name = self.judge.name
                asking = Asking(
                    name, lambda: "the verdicts", self.store, self._lead, self._kept, said
                )
                asking.ask(self._batches(), log)
        return waiting

    def _lead(self, rows: Sequence[Row], arrived: Arrived[Verdict]) -> None:
        games = [Game(**{name: row[name] for name in Game.__annotations__}) for row in rows]
        self.judge.judge(games, arrived)

    def _kept(self, game: Row, verdict: Verdict, seconds: float) -> Row | None:
        key = game["judgment_id"]
        if verdict.failure == BACKEND_ERROR:
            self.failures[key] = verdict
            return None
        return {"judgment_id": key, "seconds": seconds, **asdict(verdict)}

    def waiting(self) -> int:
        """How many games the store lacks; the table `todo` lists them."""
        wanted = "(select * from games where not abstains)"
        return create_missing(self.connection, self.store, wanted)

    def _batches(self) -> Iterator[list[Row]]:
        return batches_of(
            self.connection.sql(
                """
                select todo.batch, todo.judgment_id, todo.prompt_id, prompts.messages,
                       prompts.constraints, prompts.reference, a.text as text_a, b.text as text_b,
                       a.turns as turns_a, b.turns as turns_b
                from todo
                join prompts on prompts.prompt_id = todo.prompt_id
                join responses as a
                  on a.prompt_id = todo.prompt_id and a.contestant = todo.contestant_a
                join responses as b
                  on b.prompt_id = todo.prompt_id and b.contestant = todo.contestant_b
                order by todo.batch, todo.prompt_id, todo.first, todo.second, todo.game
                """
            ).to_arrow_reader(_ROWS)
        )

    def rows(self, round_: str, seat: Seat) -> Iterator[pa.RecordBatch]:
        """The games as rows of the judgments table, in order."""
        self.store.create_view(self.connection, "stored")
        failed = [{"judgment_id": key, **asdict(v)} for key, v in self.failures.items()]
        self.connection.register("failed", pa.Table.from_pylist(failed, schema=STORE_SCHEMA))
        reader = self.connection.sql(
            """
            with verdicts as (
                select * from stored
                union all by name
                select * from failed where judgment_id not in (select judgment_id from stored)
            )
            select games.judgment_id, $round as round, games.prompt_id, games.game,
                   games.contestant_a, games.contestant_b, games.response_a, games.response_b,
                   $judge as judge, $version as judge_version, $role as role, $jury as jury,
                   $weight::double as weight,
                   if(games.abstains, 'abstained', verdicts.status) as status,
                   verdicts.failure, verdicts.score_a, verdicts.score_b,
                   if(games.abstains, 'The judge stays out of battles of its own weights.',
                      verdicts.explanation) as explanation,
                   verdicts.raw, verdicts.reasoning, coalesce(verdicts.attempts, 0) as attempts,
                   if(verdicts.status is null, 0, verdicts.prompt_tokens) as prompt_tokens,
                   if(verdicts.status is null, 0, verdicts.completion_tokens) as completion_tokens,
                   coalesce(verdicts.seconds, 0) as seconds
            from games
            left join verdicts
              on verdicts.judgment_id = games.judgment_id and not games.abstains
            order by games.prompt_id, games.first, games.second, games.game
            """,
            params={
                "round": round_,
                "judge": self.judge.name,
                "version": self.judge.version,
                "role": seat.role,
                "jury": seat.jury,
                "weight": seat.weight,
            },
        ).to_arrow_reader(_ROWS)
        for part in reader:
            yield part.select(JUDGMENTS.schema.names).cast(JUDGMENTS.schema)
