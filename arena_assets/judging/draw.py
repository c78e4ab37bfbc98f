"""Which battles a partition of responses gives: drawn once for whoever plans and whoever judges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import comb
from typing import Literal

import duckdb
import pyarrow as pa

from arena_assets.judging.games import Games, Judge, open_store
from arena_assets.judging.verdicts import Verdict
from arena_assets.lake.lake import ALL, Lake

Mode = Literal["all_pairs", "target_against_opponents"]  # as of BattleSettings


def create_answers(connection: duckdb.DuckDBPyConnection) -> None:
    """The table `answers` over the views `responses` and `prompts`: who answered, as hashes."""
    connection.execute(
        """
        create or replace temp table answers as
        select responses.prompt_id, responses.contestant, responses.role, responses.response_id,
               responses.model_digest,
               sha256(to_json(responses.turns)::varchar || responses.text) as text_digest,
               sha256(to_json(struct_pack(m := prompts.messages, c := prompts.constraints,
                                          r := prompts.reference))::varchar) as prompt_digest
        from responses join prompts on prompts.prompt_id = responses.prompt_id
        where responses.status = 'ok'
        """
    )


def draw_battles(
    connection: duckdb.DuckDBPyConnection,
    limit: int | None = None,
    seed: int = 0,
    mode: Mode = "all_pairs",
) -> pa.Table:
    """Every pair of contestants on every prompt: prompt_id, first, second, in order.

    With `target_against_opponents` those pairs that a target is in. Prompts without an answer of
    one of them are left out. With `limit`, a random sample of that many battles (the same for the
    same seed).
    """
    return connection.sql(
        """
        with pairs as (
            select one.prompt_id, one.contestant as first, two.contestant as second
            from answers as one
            join answers as two
              on one.prompt_id = two.prompt_id and one.contestant < two.contestant
             and ($all_pairs or 'target' in (one.role, two.role))
        ),
        sampled as (
            select * from pairs
            order by md5(concat_ws('|', $seed, prompt_id, first, second)) limit $limit
        )
        select * from sampled order by prompt_id, first, second
        """,
        params={"seed": seed, "limit": limit, "all_pairs": mode == "all_pairs"},
    ).to_arrow_table()


def most_battles(prompts: int, contestants: int, limit: int | None = None, apart: int = 0) -> int:
    """How many battles `draw_battles` gives where everybody answers every prompt.

    `apart` of the contestants do not meet each other.
    """
    battles = prompts * (comb(contestants, 2) - comb(apart, 2))
    return battles if limit is None else min(limit, battles)


class Draw:
    """The battles of a partition of responses, and the games on them before each judge.

    Who wants to know what there is to judge asks it as well as who judges.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        lake: Lake,
        seed: int,
        batch: int,
        mode: Mode,
    ):
        self.connection = connection
        self.mode = mode
        self.lake = lake
        self.seed = seed
        self.batch = batch
        create_answers(connection)

    def battles(self, limit: int | None) -> pa.Table:
        return draw_battles(self.connection, limit, self.seed, self.mode)

    def games(
        self, judge: Judge, battles: pa.Table, failures: dict[str, Verdict] | None = None
    ) -> Games:
        """Both games of each battle; there is one such object at a time, the one opened last."""
        store, failed = open_store(self.lake, judge), {} if failures is None else failures
        return Games(self.connection, battles, judge, store, self.batch, failed)


@contextmanager
def open_draw(
    lake: Lake,
    responses: str,
    partition: str,
    seed: int,
    batch: int = 1,
    mode: Mode = "all_pairs",
) -> Iterator[Draw]:
    """The draw over a partition of a responses table. Raises MissingPartition."""
    views = {"responses": (responses, partition), "prompts": ("prompts_curated", ALL)}
    with lake.connect(**views) as connection:
        yield Draw(connection, lake, seed, batch, mode)
