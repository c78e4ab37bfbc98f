"""What a table has to be, as plain data that is read without importing a library.

A suite looks at `sql`: the table itself with columns derived beside it (how many games a battle
has, whether a prompt is in the test set), so that rules over several tables are expectations on a
column too. `{table}` is the partition under test; other names are tables of the lake. Critical
expectations block what comes after them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from arena_assets.lake.tables import TABLES


@dataclass(frozen=True)
class Suite:
    """The expectations of one table.

    `others` are unpartitioned tables that the SQL reads; `partitions` says what a partition of the
    table is: a round, a source, or nothing.
    """

    table: str
    expectations: tuple[dict[str, Any], ...]
    sql: str = "select * from {table}"
    others: tuple[str, ...] = ()
    partitions: str = "round"
    parameters: Mapping[str, Any] = field(default_factory=dict)


def expect(name: str, type_: str, *, blocking: bool = True, **kwargs: Any) -> dict[str, Any]:
    """One expectation: its name as a check, the type of Great Expectations, and its arguments."""
    return {
        "name": name,
        "type": f"expect_{type_}",
        "kwargs": kwargs,
        "severity": "critical" if blocking else "warning",
    }


def columns_of(table: str) -> dict[str, Any]:
    # lists are left out of what a suite looks at
    names = [f.name for f in TABLES[table].schema if not str(f.type).startswith("list")]
    return expect(
        "columns_present", "table_columns_to_match_set", column_set=names, exact_match=False
    )


def rows(minimum: int = 1, blocking: bool = True) -> dict[str, Any]:
    return expect("has_rows", "table_row_count_to_be_between", min_value=minimum, blocking=blocking)


def unique(table: str) -> dict[str, Any]:
    """The key of a table identifies a row."""
    key = list(TABLES[table].key)
    if len(key) == 1:
        return expect("key_unique", "column_values_to_be_unique", column=key[0])
    return expect("key_unique", "compound_columns_to_be_unique", column_list=key)


def only(name: str, column: str, *values: Any, blocking: bool = True) -> dict[str, Any]:
    return expect(
        name, "column_values_to_be_in_set", column=column, value_set=list(values), blocking=blocking
    )


def filled(name: str, column: str, blocking: bool = True) -> dict[str, Any]:
    return expect(
        name, "column_value_lengths_to_be_between", column=column, min_value=1, blocking=blocking
    )


def between(name: str, column: str, least: float, most: float) -> dict[str, Any]:
    return expect(
        name, "column_values_to_be_between", column=column, min_value=least, max_value=most
    )


def mean_at_most(name: str, column: str, most: float, blocking: bool = True) -> dict[str, Any]:
    """A share: the mean of a column of zeros and ones; nulls do not count."""
    return expect(
        name, "column_mean_to_be_between", column=column, max_value=most, blocking=blocking
    )
