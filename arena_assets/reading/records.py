"""One row of a file, its values as they were written, and rows collected as an Arrow table."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

BATCH = 10_000  # rows
LONGEST = 64 * 1024 * 1024  # characters of a row; beyond it a file is broken, or no file of rows
_KEPT = 100_000  # characters of an unusable row's text
_EXACT = 18  # digits; longer numbers would change as floats, and Python refuses thousands of them
_TOO_DEEP = "nested too deep"
_BETWEEN = re.compile(r"[\s,]*")  # objects on one line


class Number(float):
    """A number of a JSON file that remembers how it was written, so that 1.10 stays 1.10."""

    def __new__(cls, text: str) -> Number:
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str


def _integer(text: str) -> int | Number:
    return int(text) if len(text) <= _EXACT and text != "-0" else Number(text)


def _constant(text: str) -> Number | None:
    """Infinity, -Infinity, or NaN, which is how Python writes that a value is missing."""
    return None if text == "NaN" else Number(text)


_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=Number, parse_constant=_constant)


def parse_json(text: str) -> Any:
    """The value of a JSON text, its numbers as of `Number`; ValueError in words for a person."""
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def text_of(value: Any) -> str | None:
    """A value as the text that it is, or None: no number is rounded, no date rewritten.

    >>> text_of("007"), text_of(7), text_of(parse_json("1.10")), text_of(1.1)
    ('007', '7', '1.10', None)
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Number):
        return value.text
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, bytes):  # old Parquet writers leave out that a column is text
        return value.decode("utf-8", "surrogateescape")
    return None


@dataclass(frozen=True)
class Record:
    """One row of a file, or the reason why it could not be read; `raw` is its text.

    `line` counts from 1: the line where the row begins, or the row of a Parquet file or data set.
    """

    line: int
    row: dict[str, Any]
    problem: str | None = None
    raw: str | None = None

    def text(self) -> str:
        """What was read, as text that can be stored; the end of a very long one is cut."""
        raw = self.raw
        if raw is None:
            raw = json.dumps(self.row, ensure_ascii=False, default=str)
        if len(raw) > _KEPT:
            raw = f"{raw[:_KEPT]}… ({len(raw)} characters)"
        return raw.encode("utf-8", "backslashreplace").decode("utf-8")


def json_record(line: int, text: str) -> Record:
    """The record of a JSON text that should be an object."""
    try:
        row = parse_json(text)
    except ValueError as error:
        return Record(line, {}, str(error), text)
    if isinstance(row, dict):
        return Record(line, row, None, text)
    return Record(line, {}, f"expected a JSON object, got {type(row).__name__}", text)


def line_records(line: int, text: str) -> list[Record]:
    """The record of a line, or of each of its objects: with commas or nothing between and after.

    A writer that was killed leaves two objects on a line, one cut out of an array a comma.
    """
    whole = json_record(line, text)
    if whole.problem is None:
        return [whole]
    records, place = [], 0
    while place < len(text):
        try:
            row, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            return [whole]
        if not isinstance(row, dict):
            return [whole]
        records.append(Record(line, row, None, text[place:end]))
        between = _BETWEEN.match(text, end)
        place = between.end() if between else end
    return records


class ArrowRows:
    """Collects rows in Arrow batches: Python dictionaries of a whole collection would not fit."""

    def __init__(self, schema: pa.Schema):
        self._schema = schema
        self._batches: list[pa.RecordBatch] = []
        self._pending: list[dict[str, Any]] = []

    def append(self, row: dict[str, Any]) -> None:
        self._pending.append(row)
        if len(self._pending) >= BATCH:
            self._flush()

    def table(self) -> pa.Table:
        self._flush()
        return pa.Table.from_batches(self._batches, schema=self._schema)

    def _flush(self) -> None:
        if self._pending:
            self._batches.append(pa.RecordBatch.from_pylist(self._pending, schema=self._schema))
            self._pending = []
