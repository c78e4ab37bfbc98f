"""What commands print: tables for people, JSON for scripts, a sentence where they refuse."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal, NoReturn

import typer

from arena_assets.hostile_text import visible, visible_lines


class Format(StrEnum):
    """How a result is printed."""

    table = "table"
    json = "json"


class ListFormat(StrEnum):
    """How a list is printed."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"


FormatOption = Annotated[
    Format, typer.Option("--format", help="table for people, json for scripts")
]
_RATINGS = ("rating", "lower", "upper", "held_out_rating")


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    missing: str = "-",
) -> None:
    """Print rows under a title; numbers stand to the right, None as `missing`.

    Where the screen is too narrow for whole words, each row is a few lines: name, then the rest.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [
        [visible(missing if row[c] is None else _cell(c, row[c])) for c in columns] for row in rows
    ]
    headers = [visible(column.replace("_", " ")) for column in columns]
    lines = [headers, *cells]
    most = [max(cell_len(line[n]) for line in lines) for n in range(len(columns))]
    words = [[word for line in lines for word in line[n].split()] for n in range(len(columns))]
    least = [max(map(cell_len, of_column), default=1) for of_column in words]
    # names are names: "[/b]" is no markup and ":tada:" no emoji
    console = Console(markup=False, emoji=False)
    frame = 3 * len(columns) + 1
    if not sys.stdout.isatty():  # a pipe has no width
        console.width = max(160, sum(least) + frame)
    # Text is printed as it is, where a string would be read as rich's markup: [red], [link=...]
    if sum(least) + frame > console.width:
        _print_rows(console, title, headers, cells, missing)
        return
    table = Table(title=Text(visible(title)))
    widths = _widths(least, most, console.width - frame)
    for column, header, width in zip(columns, headers, widths, strict=True):
        numeric = any(isinstance(row[column], int | float) for row in rows)
        justify: Literal["left", "right"] = "right" if numeric else "left"
        table.add_column(Text(header), justify=justify, width=width)
    for row_cells in cells:
        table.add_row(*map(Text, row_cells))
    console.print(table)


def _widths(least: Sequence[int], most: Sequence[int], room: int) -> list[int]:
    """The width of each column: what is left beside whole words goes where most lines wrap."""
    widths = list(least)
    for _ in range(min(room, sum(most)) - sum(least)):
        short = [wanted - width for wanted, width in zip(most, widths, strict=True)]
        widths[short.index(max(short))] += 1
    return widths


def _print_rows(
    console: Any, title: str, headers: Sequence[str], cells: Sequence[list[str]], missing: str
) -> None:
    """Rows as lines: the first cell, and below it the others that say something, by name."""
    from rich.padding import Padding
    from rich.text import Text

    console.print(Text(visible(title), "italic"))
    for first, *others in cells:
        console.print(Text(first, "bold"))
        named = zip(headers[1:], others, strict=True)
        told = [f"{header} {cell}" for header, cell in named if cell not in ("", missing)]
        console.print(Padding(Text("; ".join(told)), (0, 0, 0, 2)))


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


def interval(lower: float | None, upper: float | None, form: str = ".0f") -> str | None:
    """Both ends of an interval in one cell; None where there is none."""
    return None if lower is None or upper is None else f"{lower:{form}} to {upper:{form}}"


def _cell(column: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if column in _RATINGS else f"{value:.2f}"
    return ", ".join(value) if isinstance(value, list) else str(value)
