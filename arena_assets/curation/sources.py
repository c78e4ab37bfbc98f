"""Reads prompts from files and Hugging Face data sets, whatever usual shape they have.

A row that cannot be read is not dropped: it goes to quarantine with its file, its line and the reason.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from arena_assets.config import Source
from arena_assets.judging.constraints import parse_constraints
from arena_assets.store import content_key
from arena_assets.tables import PROMPTS, QUARANTINE

SHAPES = (
    "messages (role, content), conversations (ShareGPT: from, value), instruction with optional input "
    "(Alpaca), or a plain text column named prompt, question or text"
)
_SHAREGPT_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
_SHAREGPT_ROLES |= {"system": "system"}
_TEXT_COLUMNS = ("prompt", "question", "text")
_COLUMNS = {"messages", "conversations", "instruction", *_TEXT_COLUMNS}
_BATCH = 10_000


class UnreadableSource(ValueError):
    """A source as a whole that cannot be read; the message names it and what would be understood."""


def read_source(source: Source, path: Path | None) -> tuple[pa.Table, pa.Table]:
    """The prompts of a source and its quarantined rows, in the columns of those two tables.

    `path` is the source's local file; without one the source is a Hugging Face data set. Raises
    UnreadableSource for an unknown file type or where no column is recognised.
    """
    place = str(path) if path else f"hub:{source.hub}"
    prompts, quarantine, seen = [], [], {}
    batches = []
    for line, raw, row in _rows(source, path):
        try:
            prompt = _prompt(source.name, row)
            if (first := seen.setdefault(prompt["prompt_id"], line)) != line:
                raise ValueError(f"prompt_id {prompt['prompt_id']!r} is already on line {first}")
        except ValueError as error:
            quarantine.append(
                {"source": source.name, "path": place, "line": line, "reason": str(error), "raw": raw}
            )
            continue
        prompts.append(prompt)
        if len(prompts) == _BATCH:
            batches.append(pa.Table.from_pylist(prompts, schema=PROMPTS.schema))
            prompts = []
    batches.append(pa.Table.from_pylist(prompts, schema=PROMPTS.schema))
    return pa.concat_tables(batches), pa.Table.from_pylist(quarantine, schema=QUARANTINE.schema)


def _rows(source: Source, path: Path | None) -> Iterator[tuple[int, str, Any]]:
    """(line, raw text, row) of every row; a row that is no JSON comes as its error."""
    if path is None:
        from datasets import load_dataset

        for number, row in enumerate(load_dataset(source.hub, split=source.split, streaming=True), 1):
            yield number, json.dumps(row, default=str), row
        return
    if not path.exists():
        raise UnreadableSource(f"source {source.name}: {path} does not exist")
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    if path.suffix not in readers:
        raise UnreadableSource(f"source {source.name}: {path} is none of {', '.join(readers)}")
    yield from readers[path.suffix](path)


def _jsonl(path: Path) -> Iterator[tuple[int, str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield number, line.rstrip("\n"), json.loads(line)
            except json.JSONDecodeError as error:
                yield number, line.rstrip("\n"), ValueError(f"not valid JSON: {error}")


def _csv(path: Path) -> Iterator[tuple[int, str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        _require_columns(path, reader.fieldnames or [])
        for row in reader:
            yield reader.line_num, json.dumps(row), row


def _parquet(path: Path) -> Iterator[tuple[int, str, Any]]:
    file = pq.ParquetFile(path)
    _require_columns(path, file.schema_arrow.names)
    number = 0
    for batch in file.iter_batches(_BATCH):
        for row in batch.to_pylist():
            number += 1
            yield number, json.dumps(row, default=str), row


def _require_columns(path: Path, names: list[str]) -> None:
    if not _COLUMNS & set(names):
        raise UnreadableSource(f"{path}: columns {', '.join(names)}; understood are {SHAPES}")


def _prompt(source: str, row: Any) -> dict[str, Any]:
    """One row of the prompts table; ValueError says what is wrong with it."""
    if isinstance(row, ValueError):
        raise row
    if not isinstance(row, dict):
        raise ValueError(f"a {type(row).__name__} where an object is expected")
    messages = _messages(row)
    constraints = row.get("constraints") or "[]"
    if not isinstance(constraints, str):
        constraints = json.dumps(constraints, ensure_ascii=False)
    parse_constraints(constraints)
    difficulty = row.get("difficulty")
    return {
        "prompt_id": str(row.get("prompt_id") or f"{source}-{content_key(messages)[:16]}"),
        "source": source,
        "messages": messages,
        "constraints": constraints,
        "category": str(row.get("category") or "none"),
        "difficulty": float(difficulty) if difficulty not in (None, "") else None,
        "reference": row.get("reference") or None,
    }


def _messages(row: dict[str, Any]) -> list[dict[str, str]]:
    """The conversation up to its last user message; ValueError where the row has none."""
    if "messages" in row:
        given = row["messages"]
        given = json.loads(given) if isinstance(given, str) else given
        turns = [(turn.get("role"), turn.get("content")) for turn in _turns(given)]
    elif "conversations" in row:
        turns = [
            (_SHAREGPT_ROLES.get(turn.get("from")), turn.get("value"))
            for turn in _turns(row["conversations"])
        ]
    elif "instruction" in row:
        text = "\n\n".join(filter(None, [row["instruction"], row.get("input")]))
        turns = [("user", text)]
    else:
        column = next((name for name in _TEXT_COLUMNS if name in row), None)
        if column is None:
            raise ValueError(f"keys {', '.join(row) or 'none'}; understood are {SHAPES}")
        turns = [("user", row[column])]
    while turns and turns[-1][0] == "assistant":
        turns.pop()
    _check(turns)
    return [{"role": role, "content": content} for role, content in turns]


def _turns(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise ValueError("the conversation is no list of objects")
    return value


def _check(turns: list[tuple[Any, Any]]) -> None:
    if not turns:
        raise ValueError("no user message")
    for number, (role, content) in enumerate(turns, 1):
        if role not in ("system", "user", "assistant"):
            raise ValueError(f"message {number}: unknown role (valid: system, user, assistant)")
        if not isinstance(content, str) or not content.strip():
            raise ValueError(f"message {number}: empty content")
        if role == "system" and number > 1:
            raise ValueError(f"message {number}: a system message has to come first")
    roles = [role for role, _ in turns if role != "system"]
    for number, role in enumerate(roles):
        if role != ("user", "assistant")[number % 2]:
            raise ValueError("user and assistant do not take turns, the user first")
