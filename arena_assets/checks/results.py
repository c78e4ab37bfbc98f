"""What checks found, noted beside the table: which rows they saw, by which rules, what failed.

Blocking checks hold within one run only, and Dagster's record of them knows a partition but not the
rows in it. So whoever must not go on with bad rows reads this note, which counts for these very
rows and rules alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

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
    note = {"looked_at": seen, "failed": list(failed)}
    _write(_place(lake, suite.table, partition, "checked"), note)


def recorded_failures(lake: Lake, suite: Suite, partition: str) -> list[str] | None:
    """What was noted of the present rows and rules; None where they were not validated yet.

    Raises MissingPartition.
    """
    seen = looked_at(lake, suite, partition)
    noted = _read(_place(lake, suite.table, partition, "checked"))
    return noted["failed"] if noted.get("looked_at") == seen else None


def record_tests(lake: Lake, table: str, partition: str, passed: Mapping[str, bool]) -> None:
    """Note how dbt's tests of a table ended; those of the same rows that did not run now stay."""
    rows, place = lake.digest(table, partition), _place(lake, table, partition, "tested")
    noted = _read(place)
    known = noted["passed"] if noted.get("rows") == rows else {}
    _write(place, {"rows": rows, "passed": {**known, **passed}})


def failed_tests(lake: Lake, table: str, partition: str) -> list[str] | None:
    """The tests of dbt that the present rows failed; None where none of them saw these rows.

    Raises MissingPartition.
    """
    noted = _read(_place(lake, table, partition, "tested"))
    if noted.get("rows") != lake.digest(table, partition):
        return None
    return sorted(name for name, passed in noted["passed"].items() if not passed)


def _place(lake: Lake, table: str, partition: str, what: str) -> Path:
    file = lake.path(table, partition)
    return file.with_name(f".{file.stem}.{what}.json")


def _read(place: Path) -> dict[str, Any]:
    return json.loads(place.read_text("utf-8")) if place.exists() else {}


def _write(place: Path, note: Mapping[str, Any]) -> None:
    durable.write_text(place, json.dumps(note))
