"""The collected prompts as every step sees them: those of all sources that no earlier step dropped.

Steps write only what they drop; what remains is computed by DuckDB from the sources and the drops,
so that no step copies the collection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb

from arena_assets.lake.lake import ALL, Lake
from arena_assets.lake.tables import PROMPTS

STEPS = (
    "dropped_unsafe",
    "dropped_short",
    "dropped_prefixes",
    "dropped_near_duplicates",
    "dropped_contaminated",
    "dropped_languages",
)
_MEMORY = "1500MB"  # beyond it DuckDB spills to disk


@contextmanager
def remaining(
    lake: Lake, sources: Sequence[str], before: str | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with the relations `collected` and `remaining`, the prompts that `before` has to see.

    `before` is one of STEPS, or None for what remains after all of them. Both relations have the
    columns of PROMPTS.
    """
    done = STEPS[: STEPS.index(before)] if before else STEPS
    drops = {table: (table, ALL) for table in done}
    with lake.connect(**drops) as connection:
        connection.execute(f"set memory_limit = '{_MEMORY}'")
        files = [str(lake.present("prompts", source)) for source in sources]
        connection.register("collected", connection.read_parquet(files))
        lost = " union all ".join(f"select prompt_id from {table}" for table in done)
        connection.execute(
            "create temp view remaining as select * from collected"
            + (f" where prompt_id not in ({lost})" if lost else "")
        )
        yield connection


def count(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    """The rows of a relation."""
    ((rows,),) = connection.execute(f"select count(*) from {relation}").fetchall()
    return rows


def refuse_shared_ids(connection: duckdb.DuckDBPyConnection) -> None:
    """ValueError where two sources have a prompt under one identifier."""
    twice = connection.execute(
        """
        select prompt_id, string_agg(distinct source, ', ' order by source) from collected
        group by prompt_id having count(*) > 1 order by prompt_id limit 1
        """
    ).fetchall()
    for prompt_id, sources in twice:
        raise ValueError(
            f"prompt_id {prompt_id!r} is in several sources ({sources}); make it unique"
        )


def all_drops(connection: duckdb.DuckDBPyConnection, lake: Lake) -> duckdb.DuckDBPyRelation:
    """The drops of every step; a test set is frozen: a later rule takes nothing out of it."""
    tables = (*STEPS, "dropped_near_testset")
    for table in (*tables, "arena_testset"):
        connection.register(table, connection.read_parquet(str(lake.present(table))))
    union = " union all ".join(f"select * from {table}" for table in tables)
    return connection.sql(
        f"select * from ({union}) anti join arena_testset using (prompt_id) order by prompt_id"
    )


def curated(
    connection: duckdb.DuckDBPyConnection, lake: Lake, version: str
) -> tuple[duckdb.DuckDBPyRelation, duckdb.DuckDBPyRelation]:
    """Of `remaining`: what curation keeps, and of it (prompt_id, source) what slices are drawn of.

    A test set is complete in itself: the prompts of `version` stay though their source has changed.
    """
    for name, table, partition in (
        ("testset", "testset_versions", version),
        ("near", "dropped_near_testset", ALL),
    ):
        file = str(lake.present(table, partition))
        connection.register(name, connection.read_parquet(file))
    connection.execute(
        """
        create temp view free as select * from remaining where prompt_id not in (
            select prompt_id from testset union all select prompt_id from near)
        """
    )
    columns = ", ".join(PROMPTS.schema.names)
    kept = connection.sql(
        f"select {columns} from free union all select {columns} from testset order by prompt_id"
    )
    return kept, connection.sql("select prompt_id, source from free")
