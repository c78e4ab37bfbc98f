"""How the games of a table of judgments came out, counted for people."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from arena_assets.lake.lake import Lake


def counted_games(lake: Lake, table: str, key: str) -> dict[str, Any]:
    """All games, those that failed, their share of all (0 of none), and those abstained."""
    (counted,) = lake.query(
        """
        select count(*) as games, count(*) filter (where status = 'failed') as failed,
               coalesce(avg((status = 'failed')::int), 0) as failed_rate,
               count(*) filter (where status = 'abstained') as abstained
        from judgments
        """,
        judgments=(table, key),
    ).to_pylist()
    return counted


def counted_failures(lake: Lake, table: str, key: str) -> pa.Table:
    """Failed games by judge and reason, most first."""
    return lake.query(
        """
        select judge, failure, count(*) as games from judgments where failure is not null
        group by all order by games desc, judge, failure
        """,
        judgments=(table, key),
    )
