"""Moves rows of a store to other keys: written beside first, so that a kill loses nothing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import suppress

import duckdb

from arena_assets.lake.lake import write_atomically, writing
from arena_assets.lake.store import Store

_BATCH = 10_000  # rows


def move_rows(
    connection: duckdb.DuckDBPyConnection,
    old: Store,
    new: Store,
    log: Callable[[str], None],
    suits: str = "true",
) -> tuple[int, int]:
    """Give rows of `old` their new keys in `new`; how many those are, and how many stay.

    `connection` has the relation `ids` (old_id, new_id); `suits` is a condition on rows. A row that
    `new` has already is not added again. What stays is one shard of `old`.
    """
    with old.locked(log), new.locked(log):
        old.create_view(connection, "old_rows")
        new.create_view(connection, "new_rows")
        connection.execute(
            f"""
            create or replace temp table moving as
            select distinct ids.old_id, ids.new_id
            from ids join old_rows on old_rows.{old.key} = ids.old_id where {suits}
            """
        )
        _add_shard(
            connection,
            new,
            f"""
            select old_rows.* replace (moving.new_id as {new.key})
            from old_rows join moving on moving.old_id = old_rows.{old.key}
            where moving.new_id not in (select {new.key} from new_rows)
            """,
        )
        stays = f"select * from old_rows where {old.key} not in (select old_id from moving)"
        moved = _count(connection, "select distinct old_id from moving")
        left = _count(connection, stays)
        if moved:
            before = list(old.folder.glob("*.parquet"))
            _add_shard(connection, old, stays)
            for shard in before:
                shard.unlink()
    with suppress(OSError):  # something is still in it
        (old.folder / ".lock").unlink()
        old.folder.rmdir()
    return moved, left


def _add_shard(connection: duckdb.DuckDBPyConnection, store: Store, sql: str) -> None:
    """The rows of a query as one more shard, batch by batch; none where there are none."""
    if not _count(connection, sql):
        return
    shard = store.folder / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.parquet"
    names = ", ".join(store.schema.names)
    rows = connection.sql(f"select {names} from ({sql})").to_arrow_reader(_BATCH)
    with writing(shard):
        write_atomically(rows.cast(store.schema), shard)


def _count(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    return connection.execute(f"select count(*) from ({sql})").fetchall()[0][0]
