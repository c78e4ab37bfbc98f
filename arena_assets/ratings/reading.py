"""Any table file as text: what a file says is not guessed to be a number, a date or an object.

A name 1.10 stays 1.10 and 007 stays 007; columns that must be numbers are read as numbers by those
who know. Parquet keeps its types, which are no guess.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".json")
# What files begin with that are something else than their suffix says.
_OTHER_FORMATS = {
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"\x1f\x8b": "compressed by gzip; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it",
    b"PK\x03\x04": "a zip or a spreadsheet; unpack it or save it as CSV",
    b"PAR1": "Parquet; name it .parquet",
}
# SQL of a contestant's name without the blanks around it: no two are told apart by them.
NAME = r"regexp_replace({0}, '^[\s\x{{A0}}\x{{FEFF}}]+|[\s\x{{A0}}\x{{FEFF}}]+$', '', 'g')"
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_NESTED_TYPES = ("STRUCT", "MAP", "UNION")


@dataclass(frozen=True)
class Source:
    """What a file holds: all its columns, and the first row (from 1) of each with lists or objects.

    The wanted ones among them are the table `source` of the connection, rows in order.
    """

    columns: Sequence[str]
    nested: dict[str, int]


def open_table(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    wanted: Collection[str],
    error: type[ValueError],
) -> Source:
    """Read the wanted columns of a file into the table `source`, in the order of its rows.

    Raises `error` with one sentence that names the line, or the row (from 1), and what is wrong.
    """
    if not path.exists():
        raise error(f"{path}: no such file")
    if path.is_dir():
        raise error(f"{path}: a folder; name one of its files")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise error(f"{path}: not one of {', '.join(SUFFIXES)}")
    try:
        if suffix == ".parquet":
            return _open_parquet(connection, path, wanted)
        text = _text(path.read_bytes())
        if suffix in (".csv", ".tsv"):
            columns = _csv_columns(text, suffix == ".tsv")
            nested: dict[str, int] = {}
        else:
            columns, nested = _json_columns(_json_rows(text))
    except duckdb.Error as broken:
        reason = str(broken).splitlines()[0]
        raise error(f"{path}: cannot be read as Parquet ({reason})") from None
    except _Unreadable as broken:
        raise error(f"{path}{broken}") from None
    except OSError as broken:
        raise error(f"{path}: {broken.strerror}") from None
    held = {name: _array(columns[name]) for name in columns if name in wanted}
    if held:
        connection.register("source", pa.table(held))
    return Source(list(columns), nested)


class _Unreadable(ValueError):
    """What is wrong with a file; the message goes on after its name."""


def _open_parquet(
    connection: duckdb.DuckDBPyConnection, path: Path, wanted: Collection[str]
) -> Source:
    relation = connection.read_parquet(str(path))
    there = [name for name in relation.columns if name in wanted]
    if there:
        # read now: a broken page is found here and not in the middle of a query
        relation.select(*there).to_table("source")
    kinds = zip(relation.columns, map(str, relation.types), strict=True)
    nested = {n: 1 for n, k in kinds if k.startswith(_NESTED_TYPES) or k.endswith("]")}
    return Source(relation.columns, nested)


def _text(content: bytes) -> str:
    for start, what in _OTHER_FORMATS.items():
        if content.startswith(start):
            raise _Unreadable(f": this is {what}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        line = content.count(b"\n", 0, broken.start) + 1
        byte = content[broken.start]
        raise _Unreadable(
            f", line {line}: the byte 0x{byte:02x} is no UTF-8; save the file as UTF-8"
        ) from None
    if not text.strip():
        raise _Unreadable(": the file is empty")
    return text


def _csv_columns(text: str, tabs: bool) -> dict[str, list[str | None]]:
    """The columns of a CSV as text; an empty field is no value."""
    delimiter = "\t" if tabs else _delimiter(text)
    csv.field_size_limit(2**31 - 1)  # an answer may be long
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    try:
        header = [name.strip() for name in next(row for row in reader if row)]
        twice = [name for name in header if name and header.count(name) > 1]
        if twice:
            raise _Unreadable(f", line {reader.line_num}: the column {twice[0]!r} is there twice")
        for row in reader:
            if not row:
                continue  # a blank line
            rows.append(row)
            if len(row) != len(header):
                fields = f"{len(row)} field{'s' * (len(row) != 1)}"
                raise _Unreadable(
                    f", row {len(rows)} (line {reader.line_num}): {fields} where the header names "
                    f"{len(header)}"
                )
    except csv.Error as broken:
        raise _Unreadable(f", line {reader.line_num}: no valid CSV ({broken})") from None
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    return {
        name: [value or None for value in column]
        for name, column in zip(header, columns, strict=True)
    }


def _delimiter(text: str) -> str:
    """The sign that parts the names of the header."""
    return max(",;\t", key=_QUOTED.sub("", text.split("\n", 1)[0]).count)


def _json_rows(text: str) -> Iterator[dict[str, Any]]:
    """Rows of a JSON array or of one object a line, with numbers as they were written."""
    array = text.lstrip().startswith("[")
    lines = [text] if array else io.StringIO(text, newline=None)
    decode = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str).decode
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = decode(line)
        except json.JSONDecodeError as broken:
            line_number = broken.lineno if array else number
            raise _Unreadable(f", line {line_number}: no valid JSON ({broken.msg})") from None
        except RecursionError:
            raise _Unreadable(f", line {number}: lists in lists without end") from None
        for place, row in enumerate(found if array else [found], 1):
            if not isinstance(row, dict):
                where = f"row {place}" if array else f"line {number}"
                raise _Unreadable(f", {where}: {json.dumps(row)[:40]} where an object is needed")
            yield row


def _json_columns(
    rows: Iterator[dict[str, Any]],
) -> tuple[dict[str, list[str | None]], dict[str, int]]:
    """All columns as text, and the first row of each with a list or an object, kept as JSON."""
    columns: dict[str, list[str | None]] = {}
    nested: dict[str, int] = {}
    number = 0
    for number, row in enumerate(rows, 1):
        for name, value in row.items():
            column = columns.setdefault(name, [])
            column += [None] * (number - 1 - len(column))
            if isinstance(value, list | dict):
                nested.setdefault(name, number)
            column.append(value if value is None or isinstance(value, str) else _as_json(value))
    if not number:
        raise _Unreadable(": no rows")
    for column in columns.values():
        column += [None] * (number - len(column))
    return columns, nested


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
    except RecursionError:
        raise _Unreadable(": lists in lists without end") from None


def _array(column: list[str | None]) -> pa.Array | pa.ChunkedArray:
    """Text for Arrow; half a surrogate pair, which JSON can write, stays visible as its escape."""
    try:
        return pa.array(column, pa.string())
    except UnicodeEncodeError:
        readable = [v and v.encode("utf-8", "backslashreplace").decode() for v in column]
        return pa.array(readable, pa.string())
