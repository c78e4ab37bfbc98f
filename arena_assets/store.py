"""Append-only tables addressed by content: what was paid for once is never made again.

Responses and judgments are kept under a key that is the hash of all that determines them, in
Parquet shards that are written whole or not at all. A run that is killed finds its finished shards
again; rounds share them. Whoever adds to a store holds its lock, so that two runs that want the
same rows do not both pay for them: the second one waits, and then finds them.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from filelock import FileLock, Timeout

from arena_assets.lake import write_atomically


def content_key(*parts: Any) -> str:
    """SHA-256 over the canonical JSON of `parts`, 32 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def content_key_sql(*columns: str) -> str:
    """The same idea in DuckDB: 32 hexadecimal digits over columns of text, null as nothing."""
    joined = " || chr(31) || ".join(f"coalesce({column}, '')" for column in columns)
    return f"substr(sha256({joined}), 1, 32)"


class Store:
    """Rows by `key`, below one folder, one Parquet shard an append."""

    def __init__(self, folder: Path, schema: pa.Schema, key: str):
        self.folder = folder
        self.schema = schema
        self.key = key

    @contextmanager
    def locked(self, log: Callable[[str], None]) -> Iterator[None]:
        """Hold the store for writing; waits for another run that holds it, and says so.

        The lock ends with the process, however it ends. What a killed writer left half-written is
        removed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log(
                f"another run works on {self.folder.name}: waiting for it, then taking what it made"
            )
            lock.acquire()
        try:
            for leftover in self.folder.glob(".*.partial"):
                leftover.unlink()
            yield
        finally:
            lock.release()

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows as one new shard; nothing that is there is touched."""
        if rows:
            shard = self.folder / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.parquet"
            table = pa.Table.from_pylist(list(rows), schema=self.schema)
            write_atomically(table.to_reader(), shard)

    def create_view(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        """The rows as a view, each key once (the earliest, should a copied lake hold it twice)."""
        if any(self.folder.glob("*.parquet")):
            shards = str(self.folder / "*.parquet").replace("'", "''")
            source = f"read_parquet('{shards}', filename = true)"
        else:
            connection.register(f"{name}_empty", self.schema.empty_table())
            source = f"(select *, '' as filename from {name}_empty)"
        connection.execute(
            f"""
            create or replace temp view {name} as
            select * exclude (filename) from {source}
            qualify row_number() over (partition by {self.key} order by filename) = 1
            """
        )
