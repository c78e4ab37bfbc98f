"""Recorded answers: an author, or a model that nobody can run any more, fights from a file."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from arena_assets.config.models import Sampling
from arena_assets.models.engine import Completion, Request, completed
from arena_assets.reading.files import read_records
from arena_assets.reading.places import locate
from arena_assets.reading.records import ArrowRows, Record, text_of

_SCHEMA = pa.schema({"prompt_id": pa.string(), "turn": pa.int64(), "text": pa.string()})
_COLUMNS = ("prompt_id", "text", "turn")
_SHOWN = 3  # rows a reason
_log = logging.getLogger(__name__)


class MissingRecording(ValueError):
    """A recorded contestant that has no answer to some of the prompts."""


class RecordedEngine:
    """Answers by `prompt_id` (and `turn`, 0 without that column) from files, as sources are read.

    Texts and identifiers are what the file says: a number keeps its digits. Rows that cannot be
    used, and a second answer to a prompt, are in `unusable`, with file, line and reason, and are
    logged. ValueError where no row has the columns prompt_id and text, FileNotFoundError where
    there is no file.
    """

    def __init__(self, path: Path):
        self.path = path
        self.unusable: list[str] = []
        self._reasons: Counter[str] = Counter()
        self._connection = duckdb.connect()
        self._connection.register("recorded", self._read())
        if self.unusable:
            _log.warning("%s: %s", path, self._explanation())

    def _read(self) -> pa.Table:
        rows = ArrowRows(_SCHEMA)
        seen: dict[tuple[str, int], tuple[int, int]] = {}
        columns: dict[str, None] = {}
        for file, record in read_records(locate(str(self.path)), _COLUMNS.__contains__):
            columns.update(dict.fromkeys(record.row))
            try:
                row = _answer(record)
            except ValueError as error:
                self._leave_out(file, record.line, str(error))
                continue
            key, text = (row["prompt_id"], row["turn"]), hash(row["text"])
            if key not in seen:
                seen[key] = (record.line, text)
                rows.append(row)
            elif seen[key][1] != text:
                place = f"prompt_id {key[0]!r}, first on line {seen[key][0]}"
                self._leave_out(file, record.line, "another answer to the same prompt", place)
        lacking = [name for name in _COLUMNS[:2] if name not in columns]
        if lacking and columns:
            raise ValueError(
                f"{self.path}: columns {', '.join(lacking)} missing (there: {', '.join(columns)})"
            )
        if not seen:
            raise ValueError(f"{self.path}: no answer in it; {self._explanation()}")
        return rows.table()

    def _leave_out(self, file: str, line: int, reason: str, more: str = "") -> None:
        self._reasons[reason] += 1
        self.unusable.append(f"{file}, line {line}: {reason}" + (f" ({more})" if more else ""))

    def _explanation(self) -> str:
        """What could not be used: the reasons with their numbers, and the first rows."""
        if not self.unusable:
            return "it is empty"
        said = f"{len(self.unusable)} rows cannot be used: {'; '.join(self.unusable[:_SHOWN])}"
        if len(self.unusable) <= _SHOWN:
            return said
        reasons = (f"{reason} ({rows})" for reason, rows in self._reasons.most_common(_SHOWN))
        return f"{said}; ... in all {', '.join(reasons)}"

    def chat(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        samples: int = 1,
        json_schema: dict[str, Any] | None = None,
    ) -> list[list[Completion]]:
        """The recorded texts; MissingRecording names requests that have none."""
        asked = pa.table(  # noqa: F841
            {
                "prompt_id": [request.prompt_id for request in requests],
                "turn": [request.turn for request in requests],
            }
        )
        rows = self._connection.sql(
            "select prompt_id, turn, text from recorded join asked using (prompt_id, turn)"
        ).fetchall()
        texts = {(prompt_id, turn): text for prompt_id, turn, text in rows}
        keys = [(request.prompt_id, request.turn) for request in requests]
        lacking = [prompt_id for prompt_id, turn in keys if (prompt_id, turn) not in texts]
        if lacking:
            unusable = f" ({self._explanation()})" if self.unusable else ""
            raise MissingRecording(
                f"{self.path}: no answer to {len(lacking)} of {len(keys)} prompts, for example "
                f"{', '.join(lacking[:3])}; every contestant of an arena answers every prompt"
                + unusable
            )
        return [[completed(texts[key], "recorded", 0, 0)] for key in keys]


def _answer(record: Record) -> dict[str, Any]:
    """A row of _SCHEMA; ValueError says why there is none."""
    if record.problem:
        raise ValueError(record.problem)
    prompt_id = text_of(record.row.get("prompt_id"))
    if not prompt_id:
        raise ValueError(_expected("prompt_id", record.row, "text or a whole number"))
    text = text_of(record.row.get("text"))
    if text is None:
        raise ValueError(_expected("text", record.row, "text"))
    for value in (prompt_id, text):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("not valid Unicode (half a surrogate pair, or not UTF-8)") from None
    return {"prompt_id": prompt_id, "turn": _turn(record.row.get("turn")), "text": text}


def _turn(value: Any) -> int:
    if value is None or value == "" or value != value:  # missing, also as pandas' NaN
        return 0
    if isinstance(value, float) and value.is_integer():  # pandas' whole numbers beside missing ones
        value = int(value)
    text = text_of(value) or ""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ValueError(f"turn: expected a whole number from 0, got {str(value)[:20]!r}")
    return int(text)


def _expected(name: str, row: dict[str, Any], kind: str) -> str:
    value = row.get(name)
    if value is None or value == "":
        return f"{name}: missing"
    return f"{name}: expected {kind}, got {type(value).__name__}"
