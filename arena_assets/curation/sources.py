"""Reads a collection of prompts (files or a Hugging Face data set) into two tables.

Rows that can be used become prompts; every other row goes to quarantine with its file, its line,
the reason and its text, so that nothing vanishes. What of a usable row was left out is counted in
`Notes`. Files are streamed: only the prompts themselves are held in memory.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from arena_assets.config.places import resolve
from arena_assets.config.prompts import Source
from arena_assets.curation.shapes import ANSWERS, UNDERSTOOD, Shape, Shaped, present
from arena_assets.lake.tables import BENCHMARKS, PROMPTS, QUARANTINE
from arena_assets.reading.files import read_records
from arena_assets.reading.places import locate
from arena_assets.reading.records import ArrowRows, Record

_UNRECOGNISED_LIMIT = 1_000  # rows read before a collection without any known column is refused
_SHOWN = 50  # names
_NAMES = 10_000  # different columns that are counted


@dataclass
class Notes:
    """What of a source's usable rows was left out, counted by rows."""

    left_out: Counter[str] = field(default_factory=Counter)  # by column
    answers: Counter[str] = field(default_factory=Counter)  # by column: known to be no prompt
    dropped: Counter[str] = field(default_factory=Counter)  # values that do not fit, by reason
    first_dropped: dict[str, str] = field(default_factory=dict)  # file and line, by reason
    repeated: int = 0  # rows that say the same as an earlier one
    files: tuple[str, ...] = ()  # of no known type

    def summary(self) -> dict[str, str | int]:
        """For people, what there is to say; for example `columns_left_out: "model (3)"`."""
        dropped = Counter(
            {
                f"{reason}, first in {self.first_dropped[reason]}": rows
                for reason, rows in self.dropped.items()
            }
        )
        said: dict[str, str | int] = {
            "columns_left_out": _counted(self.left_out),
            "columns_of_answers": _counted(self.answers),
            "values_dropped": _counted(dropped),
            "repeated_rows": self.repeated,
            "files_left_out": ", ".join(self.files[:_SHOWN]),
        }
        return {name: value for name, value in said.items() if value}


def _counted(counts: Counter[str]) -> str:
    shown = ", ".join(f"{name} ({rows})" for name, rows in counts.most_common(_SHOWN))
    return shown + (f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")


def collect(source: Source, log: Callable[[str], None]) -> tuple[pa.Table, pa.Table, Notes]:
    """As `read_source`, from where the source lies, with what was left out of it; `log` is told."""
    notes = Notes()
    place: Path | str | None = source.path  # None: the hub
    if source.path is not None and not source.remote:
        place = resolve(source.path)
    prompts, quarantine = read_source(source, place, notes)
    log(f"{source.name}: {prompts.num_rows} prompts, {quarantine.num_rows} rows quarantined")
    for what, said in notes.summary().items():
        log(f"{source.name}: {what.replace('_', ' ')}: {said}")
    return prompts, quarantine, notes


def read_benchmarks(sources: Sequence[Source], log: Callable[[str], None]) -> pa.Table:
    """Rows of benchmarks. Raises ValueError for one that is not read whole: it protects nothing."""
    rows = [BENCHMARKS.schema.empty_table()]
    for source in sources:
        try:
            items, quarantine, _ = collect(source, log)
        except (ValueError, FileNotFoundError) as error:
            raise ValueError(f"benchmark {source.name}: {error}") from error
        if quarantine.num_rows or not items.num_rows:
            raise ValueError(
                f"benchmark {source.name}: {first_quarantined(quarantine)}; "
                "a benchmark that is read in part protects nothing"
            )
        names = {"source": "benchmark", "prompt_id": "item_id", "messages": "messages"}
        rows.append(items.select([*names]).rename_columns(names))
    return pa.concat_tables(rows)


def first_quarantined(quarantine: pa.Table) -> str:
    """The first row of a quarantine as a sentence, or that there is none."""
    if not quarantine.num_rows:
        return "it has no rows"
    (first,) = quarantine.slice(0, 1).to_pylist()
    return f"of {quarantine.num_rows} quarantined rows the first: " + (
        f"{first['path']}, line {first['line']}: {first['reason']}"
    )


def read_source(
    source: Source, path: Path | str | None, notes: Notes | None = None
) -> tuple[pa.Table, pa.Table]:
    """The prompts of a source and its quarantine, in the columns of PROMPTS and QUARANTINE.

    `path` is the resolved file, folder or pattern, or its URI (s3://...); it is not used for
    `source.hub`. `line` of a quarantined row counts from 1: the line where the row begins, or the
    row of a Parquet file or data set. `notes` are counted on. Raises ValueError for a file type
    that is not understood, a file that breaks off, and a collection without any recognised column,
    FileNotFoundError for a file that is not there.
    """
    shape, notes = Shape(source), Notes() if notes is None else notes
    if source.hub:
        place, records = f"hub:{source.hub}/{source.split}", _hub(source.hub, source.split)
    else:
        found = locate(str(path))
        notes.files += found.left_out
        place, records = str(path), read_records(found, shape.known.__contains__)
    prompts, quarantine = ArrowRows(PROMPTS.schema), ArrowRows(QUARANTINE.schema)
    seen: dict[str, _Seen] = {}
    for file, record in _with_known_columns(records, shape, place):
        try:
            prompt = _prompt(file, record, source.name, shape, seen, notes)
            if prompt is not None:
                prompts.append(prompt)
        except (ValueError, RecursionError) as error:
            quarantine.append(
                {
                    "source": source.name,
                    "path": file,
                    "line": record.line,
                    "reason": _reason(error),
                    "raw": record.text(),
                }
            )
    return prompts.table(), quarantine.table()


@dataclass(frozen=True, slots=True)
class _Seen:
    """Where a prompt was read first, and a hash of what it asks."""

    file: str
    line: int
    asked: int

    def place(self, file: str) -> str:
        return f"line {self.line}" + (f" of {self.file}" if self.file != file else "")


def _prompt(
    file: str, record: Record, source: str, shape: Shape, seen: dict[str, _Seen], notes: Notes
) -> dict[str, Any] | None:
    """A row of PROMPTS, None where it repeats another one; ValueError says why there is none."""
    if record.problem:
        raise ValueError(record.problem)
    found = shape.read(record.row)
    prompt_id = found.prompt_id or _id_of(source, found.messages)
    said = [text for message in found.messages for text in message.values()]
    for text in (*said, prompt_id, found.category, found.reference or ""):
        text.encode()  # refuses what is not valid Unicode
    asked = hash((found.constraints, *said))
    first = seen.get(prompt_id)
    if first and first.asked != asked and found.prompt_id is None:
        raise ValueError(f"the same messages with other constraints are on {first.place(file)}")
    if first and first.asked != asked:
        raise ValueError(f"prompt_id {prompt_id!r} is already on {first.place(file)}")
    _note(notes, file, record, found)
    if first:
        notes.repeated += 1
        return None
    seen[prompt_id] = _Seen(file, record.line, asked)
    return {
        "prompt_id": prompt_id,
        "source": source,
        "messages": found.messages,
        "constraints": found.constraints,
        "category": found.category,
        "difficulty": found.difficulty,
        "reference": found.reference,
    }


def _id_of(source: str, messages: Any) -> str:
    """The identifier of a prompt whose source gives none.

    It is no identity with a version: slices are drawn by it, so it never becomes another one.
    """
    text = json.dumps([source, messages], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _note(notes: Notes, file: str, record: Record, found: Shaped) -> None:
    for column, value in record.row.items():
        if column not in found.used and present(value):
            counts = notes.answers if column in ANSWERS else notes.left_out
            if column in counts or len(counts) < _NAMES:
                counts[column] += 1
    for reason in set(found.dropped):
        notes.dropped[reason] += 1
        notes.first_dropped.setdefault(reason, f"{file}, line {record.line}")


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "not valid Unicode (half a surrogate pair, or not UTF-8)"
    return "nested too deep" if isinstance(error, RecursionError) else str(error)


def _with_known_columns(
    records: Iterable[tuple[str, Record]], shape: Shape, place: str
) -> Iterator[tuple[str, Record]]:
    """The records; ValueError where no row has a column that can be used, or one that is named.

    The first rows decide about the prompt's column, all of them about those that the profile names.
    """
    recognised, columns, unknown = False, dict[str, None](), 0
    missing = {*shape.named.values(), *shape.ignored}
    for file, record in records:
        missing.difference_update(record.row)
        recognised = recognised or shape.recognised(record.row)
        if record.problem is None and len(columns) < _NAMES:
            columns.update(dict.fromkeys(record.row))
        if not recognised and record.problem is None:
            unknown += 1
            if unknown >= _UNRECOGNISED_LIMIT:
                raise _unknown_columns(place, columns)
        yield file, record
    if unknown and not recognised:
        raise _unknown_columns(place, columns)
    if columns and missing:
        raise ValueError(
            f"{place}: no column {', '.join(map(repr, sorted(missing)))}, which the profile names "
            f"under columns or ignore (there: {_some(columns)})"
        )


def _unknown_columns(place: str, columns: Mapping[str, None]) -> ValueError:
    return ValueError(
        f"{place}: no column is known (there: {_some(columns)}); understood: {UNDERSTOOD}; "
        "columns in the profile says which one is what"
    )


def _some(columns: Mapping[str, None]) -> str:
    return ", ".join(list(columns)[:_SHOWN]) or "none"


def _hub(name: str, split: str) -> Iterator[tuple[str, Record]]:
    """A data set of the Hugging Face hub, or a local folder of that form, streamed."""
    from datasets import load_dataset

    place = f"hub:{name}/{split}"
    try:
        rows = load_dataset(name, split=split, streaming=True).decode(False)
        for number, row in enumerate(rows, start=1):
            yield place, Record(number, row)
    except Exception as error:  # it raises what its many readers raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{place}: cannot be read: {reason}") from None
