"""Games: every pair of responses to a prompt meets twice, with the order swapped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb
import pyarrow as pa

from arena_assets.generation.contestants import Message
from arena_assets.store import Store

STORE_SCHEMA = pa.schema(
    [
        ("judgment_id", pa.string()),
        ("status", pa.string()),
        ("score_a", pa.float64()),
        ("score_b", pa.float64()),
        ("explanation", pa.string()),
        ("raw", pa.string()),
        ("attempts", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Game:
    """Two responses to one prompt in one order, all that a judge gets to see."""

    prompt_id: str
    messages: list[Message]
    constraints: str
    reference: str | None
    game: int
    contestant_a: str
    contestant_b: str
    response_a: str
    response_b: str
    text_a: str
    text_b: str


@dataclass(frozen=True)
class Verdict:
    """What came of one game.

    status "ok" has both scores (1-10); "failed" is output that could not be used, kept in `raw`;
    "abstained" is a judge that has nothing to go by. The latter two are neither ties nor zeros.
    """

    status: str
    score_a: float | None = None
    score_b: float | None = None
    explanation: str | None = None
    raw: str | None = None
    attempts: int = 1


class Judge(Protocol):
    """Scores games; `key` is the hash of all that determines a verdict."""

    name: str
    version: str

    def key(self, game: Game) -> str: ...

    def judge(self, games: Sequence[Game]) -> list[Verdict]: ...


def open_store(lake_root: Path) -> Store:
    """The store of verdicts of a lake; all rounds and judges share it."""
    return Store(lake_root / "store" / "judgments", STORE_SCHEMA, "judgment_id")


def pair_up(responses: pa.Table, prompts: pa.Table, battles: int | None, seed: int) -> list[Game]:
    """Both games of every pair of contestants on every prompt, in a fixed order.

    With `battles`, a random sample of that many pairs (the same for the same seed).
    """
    with duckdb.connect() as connection:
        connection.register("responses", responses)
        connection.register("prompts", prompts)
        rows = connection.sql(
            """
            with pairs as (
                select one.prompt_id, one.contestant as first, two.contestant as second,
                       one.response_id as first_response, two.response_id as second_response,
                       one.text as first_text, two.text as second_text
                from responses as one
                join responses as two
                  on one.prompt_id = two.prompt_id and one.contestant < two.contestant
            ),
            sampled as (
                select * from pairs
                order by md5(concat_ws('|', $seed, prompt_id, first, second))
                limit $battles
            ),
            games as (
                select prompt_id, 1 as game, first as contestant_a, second as contestant_b,
                       first_response as response_a, second_response as response_b,
                       first_text as text_a, second_text as text_b, first, second
                from sampled
                union all
                select prompt_id, 2, second, first, second_response, first_response,
                       second_text, first_text, first, second
                from sampled
            )
            select games.prompt_id, prompts.messages, prompts.constraints, prompts.reference,
                   games.game, games.contestant_a, games.contestant_b,
                   games.response_a, games.response_b, games.text_a, games.text_b
            from games join prompts on prompts.prompt_id = games.prompt_id
            order by games.prompt_id, games.first, games.second, games.game
            """,
            params={"seed": seed, "battles": battles},
        ).to_arrow_table()
    return [Game(**row) for row in rows.to_pylist()]


def judge_games(
    judge: Judge,
    games: Sequence[Game],
    store: Store,
    batch: int,
    log: Callable[[str], None],
) -> tuple[list[dict[str, Any]], int]:
    """One judge's rows (less round and role), and how many games were judged anew.

    Verdicts that are in the store are not asked for again.
    """
    keys = [judge.key(game) for game in games]
    missing = store.missing(keys)
    todo = list(
        {key: game for key, game in zip(keys, games, strict=True) if key in missing}.items()
    )
    for start in range(0, len(todo), batch):
        part = todo[start : start + batch]
        verdicts = judge.judge([game for _, game in part])
        store.append(
            [
                {"judgment_id": key, **asdict(verdict)}
                for (key, _), verdict in zip(part, verdicts, strict=True)
            ]
        )
        log(f"{judge.name}: {start + len(part)}/{len(todo)} games")
    verdict_of = {row["judgment_id"]: row for row in store.select(keys).to_pylist()}
    rows = [
        {
            "prompt_id": game.prompt_id,
            "game": game.game,
            "contestant_a": game.contestant_a,
            "contestant_b": game.contestant_b,
            "response_a": game.response_a,
            "response_b": game.response_b,
            "judge": judge.name,
            "judge_version": judge.version,
            **verdict_of[key],
        }
        for key, game in zip(keys, games, strict=True)
    ]
    return rows, len(todo)
