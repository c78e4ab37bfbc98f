"""What commands print: tables for people, JSON for scripts, a sentence where they refuse."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, NoReturn

import typer

from arena_assets.hostile_text import visible, visible_lines


class Format(StrEnum):
    """How a result is printed."""

    table = "table"
    json = "json"


FormatOption = Annotated[
    Format, typer.Option("--format", help="table for people, json for scripts")
]
_RATINGS = ("rating", "lower", "upper")


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    missing: str = "-",
) -> None:
    """Print rows under a title; numbers stand to the right, None as `missing`."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Text is printed as it is, where a string would be read as rich's markup: [red], [link=...]
    table = Table(title=Text(visible(title)))
    for column in columns:
        numeric = any(isinstance(row[column], int | float) for row in rows)
        header = Text(visible(column.replace("_", " ")))
        table.add_column(header, justify="right" if numeric else "left")
    for row in rows:
        cells = [missing if row[c] is None else _cell(c, row[c]) for c in columns]
        table.add_row(*(Text(visible(cell)) for cell in cells))
    # a pipe has no width; a table that is cut helps nobody
    width = None if sys.stdout.isatty() else 160
    # names are names: "[/b]" is no markup and ":tada:" no emoji
    Console(width=width, markup=False, emoji=False).print(table)


def print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows with a header; lists are separated by blanks, None is empty."""
    writer = csv.DictWriter(sys.stdout, list(rows[0]))
    writer.writeheader()
    for row in rows:
        cells = {n: " ".join(v) if isinstance(v, list) else v for n, v in row.items()}
        writer.writerow(cells)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, default=str))


def fail(message: str) -> NoReturn:
    """Say what is wrong, and leave with code 1."""
    typer.echo(visible_lines(message), err=True)
    raise typer.Exit(1)


def _cell(column: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if column in _RATINGS else f"{value:.2f}"
    return ", ".join(value) if isinstance(value, list) else str(value)
