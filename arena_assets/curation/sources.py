"""Reads a collection of prompts (JSONL, CSV, Parquet, Hugging Face data set) into two tables.

Rows that can be used become prompts; every other row goes to quarantine with its file, its line,
the reason and its text, so that nothing vanishes. Files are streamed: only the prompts themselves
are held in memory.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from arena_assets.config import Source
from arena_assets.curation import shapes
from arena_assets.store import content_key
from arena_assets.tables import PROMPTS, QUARANTINE

BATCH = 10_000  # rows
_UNRECOGNISED_LIMIT = 1_000  # rows read before a collection without any known column is refused
_LONGEST_CELL = (
    64 * 1024 * 1024
)  # characters; the csv module's own limit of 128 Ki cuts long documents


@dataclass(frozen=True)
class Record:
    """One row of a file, or the reason why it could not be read; `raw` is its text."""

    line: int
    row: dict[str, Any]
    problem: str | None = None
    raw: str | None = None

    def text(self) -> str:
        """What was read, as text that can be stored."""
        raw = self.raw
        if raw is None:
            raw = json.dumps(self.row, ensure_ascii=False, default=str)
        return raw.encode("utf-8", "backslashreplace").decode("utf-8")


def read_source(source: Source, path: Path | str | None) -> tuple[pa.Table, pa.Table]:
    """The prompts of a source and its quarantine, in the columns of PROMPTS and QUARANTINE.

    `path` is the resolved file, or its URI (s3://...); it is not used for `source.hub`. `line` of a
    quarantined row counts from 1: the line of a JSONL or CSV file (where the row begins), the row
    of a Parquet file or data set. Raises ValueError for a file type that is not understood and for
    a collection without any recognised column, FileNotFoundError for a file that is not there.
    """
    if source.hub:
        place, records = f"hub:{source.hub}/{source.split}", _hub(source.hub, source.split)
    else:
        place, records = str(path), _file(str(path))
    prompts, quarantine = _Rows(PROMPTS.schema), _Rows(QUARANTINE.schema)
    first_line: dict[str, int] = {}
    for record in _with_known_columns(records, place):
        try:
            prompt = _prompt(record, source.name)
            known = first_line.setdefault(prompt["prompt_id"], record.line)
            if known != record.line:
                raise ValueError(f"prompt_id {prompt['prompt_id']!r} is already on line {known}")
            prompts.append(prompt)
        except ValueError as error:
            quarantine.append(
                {
                    "source": source.name,
                    "path": place,
                    "line": record.line,
                    "reason": str(error),
                    "raw": record.text(),
                }
            )
    return prompts.table(), quarantine.table()


class _Rows:
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


def _prompt(record: Record, source: str) -> dict[str, Any]:
    """A row of PROMPTS; ValueError says why there is none."""
    if record.problem:
        raise ValueError(record.problem)
    column = shapes.recognise(record.row)
    if column is None:
        raise ValueError(f"no column is known; understood: {shapes.UNDERSTOOD}")
    messages = shapes.to_messages(record.row, column)
    prompt = {
        "source": source,
        "messages": messages,
        "constraints": shapes.constraints_of(record.row),
        "category": shapes.optional_text(record.row, "category") or shapes.UNCATEGORISED,
        "difficulty": shapes.difficulty_of(record.row),
        "reference": shapes.optional_text(record.row, "reference"),
    }
    prompt_id = shapes.optional_text(record.row, "prompt_id") or content_key(source, messages)
    try:
        content_key(prompt_id, prompt)
    except UnicodeEncodeError:
        raise ValueError("not valid Unicode (half a surrogate pair, or not UTF-8)") from None
    return {"prompt_id": prompt_id, **prompt}


def _with_known_columns(records: Iterable[Record], place: str) -> Iterator[Record]:
    """The records, with a ValueError where none of the first ones has a column that can be used."""
    recognised, columns, unknown = False, dict[str, None](), 0
    for record in records:
        recognised = recognised or shapes.recognise(record.row) is not None
        if not recognised and record.problem is None:
            columns.update(dict.fromkeys(record.row))
            unknown += 1
            if unknown >= _UNRECOGNISED_LIMIT:
                raise _unknown_columns(place, columns)
        yield record
    if unknown and not recognised:
        raise _unknown_columns(place, columns)


def _unknown_columns(place: str, columns: Iterable[str]) -> ValueError:
    return ValueError(
        f"{place}: no column is known (there: {', '.join(columns) or 'none'}); "
        f"understood: {shapes.UNDERSTOOD}"
    )


def _file(path: str) -> Iterator[Record]:
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    filesystem, inside = filesystem_of(path)
    suffix = PurePosixPath(inside).suffix.lower()
    if suffix not in readers:
        raise ValueError(
            f"{path}: file type {suffix!r} is not understood (valid: {', '.join(readers)}); "
            f"shapes understood: {shapes.UNDERSTOOD}"
        )
    if filesystem.get_file_info(inside).type != fs.FileType.File:
        raise FileNotFoundError(f"{path}: no such file")
    with filesystem.open_input_file(inside) as file:
        yield from readers[suffix](file, path)


def filesystem_of(path: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or URI, and the path in it; keys come from the environment."""
    if "://" not in path:
        return fs.LocalFileSystem(), str(Path(path).absolute())
    try:
        return fs.FileSystem.from_uri(path)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{path}: no place that can be read (valid: s3://, gs://): {error}"
        ) from None


def _jsonl(file: pa.NativeFile, path: str) -> Iterator[Record]:
    with io.BufferedReader(file) as file:
        for number, line in enumerate(file, start=1):
            text = line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape").strip()
            if not text:
                continue
            try:
                row = json.loads(text)
            except (json.JSONDecodeError, RecursionError) as error:
                yield Record(number, {}, f"not JSON: {error}", text)
                continue
            if isinstance(row, dict):
                yield Record(number, row, None, text)
            else:
                kind = type(row).__name__
                yield Record(number, {}, f"expected a JSON object, got {kind}", text)


def _csv(file: pa.NativeFile, path: str) -> Iterator[Record]:
    csv.field_size_limit(_LONGEST_CELL)
    read: list[str] = []  # the lines of the row at hand
    buffered = io.BufferedReader(file)
    with io.TextIOWrapper(buffered, "utf-8-sig", "surrogateescape", newline="") as file:
        reader = csv.reader((read.append(line) or line for line in file), strict=True)
        header = next(reader, [])
        if shapes.recognise(header) is None:
            raise _unknown_columns(path, header)
        while True:
            read.clear()
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Record(line, {}, f"not CSV: {error}", "".join(read))
                continue
            raw = "".join(read).rstrip("\r\n")
            if cells and len(cells) != len(header):
                yield Record(line, {}, f"expected {len(header)} cells, got {len(cells)}", raw)
            elif cells:
                yield Record(line, dict(zip(header, cells, strict=True)), None, raw)


def _parquet(opened: pa.NativeFile, path: str) -> Iterator[Record]:
    try:
        file = pq.ParquetFile(opened)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not a Parquet file: {error}") from None
    with file:
        if shapes.recognise(file.schema_arrow.names) is None:
            raise _unknown_columns(path, file.schema_arrow.names)
        columns = [name for name in file.schema_arrow.names if name in shapes.COLUMNS]
        number = 0
        for batch in file.iter_batches(BATCH, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield Record(number, row)


def _hub(name: str, split: str) -> Iterator[Record]:
    """A data set of the Hugging Face hub, or a local folder of that form, streamed."""
    from datasets import load_dataset

    for number, row in enumerate(load_dataset(name, split=split, streaming=True), start=1):
        yield Record(number, row)
