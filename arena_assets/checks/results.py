"""What a validation found, noted beside the table: the rows it saw, its rules, and what failed.

Blocking checks hold within one run only, and Dagster's record of them knows a partition but not the
rows in it. So whoever must not go on with bad rows reads this note, which counts for these very
rows and rules alone.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from arena_assets.checks.suite import Suite
from arena_assets.lake import durable
from arena_assets.lake.identity import identity
from arena_assets.lake.lake import ALL, Lake


def tables_of(suite: Suite, partition: str) -> dict[str, str]:
    """The partition of each table that a suite's SQL reads."""
    return {suite.table: partition} | dict.fromkeys(suite.others, ALL)


def looked_at(lake: Lake, suite: Suite, partition: str) -> str:
    """The identity of what a suite looks at: the rows of its tables, its SQL, rules and limits.

    Raises MissingPartition.
    """
    read = tables_of(suite, partition).items()
    rows = {table: lake.digest(table, part) for table, part in read}
    return identity("validation", suite=asdict(suite), rows=rows)


def record(lake: Lake, suite: Suite, partition: str, seen: str, failed: Sequence[str]) -> None:
    """Note the critical expectations that failed when `seen` (of `looked_at`) was validated."""
    path = _note(lake, suite.table, partition)
    scratch = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    scratch.write_text(json.dumps({"looked_at": seen, "failed": list(failed)}), "utf-8")
    durable.replace(scratch, path)


def recorded_failures(lake: Lake, suite: Suite, partition: str) -> list[str] | None:
    """What was noted of the present rows and rules; None where they were not validated yet.

    Raises MissingPartition.
    """
    seen = looked_at(lake, suite, partition)
    path = _note(lake, suite.table, partition)
    noted = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return noted["failed"] if noted.get("looked_at") == seen else None


def _note(lake: Lake, table: str, partition: str) -> Path:
    place = lake.path(table, partition)
    return place.with_name(f".{place.stem}.checked.json")
