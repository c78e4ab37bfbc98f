"""Append-only tables addressed by content: what was paid for once is never made again.

Responses and judgments are kept under a key that is the hash of all that determines them, in
Parquet shards that are written whole or not at all. A run that is killed finds its finished shards
again; rounds share them.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from arena_assets.lake import write_atomically


def content_key(*parts: Any) -> str:
    """SHA-256 over the canonical JSON of `parts`, 32 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Store:
    """Rows by `key`, below one folder, one Parquet shard an append."""

    def __init__(self, folder: Path, schema: pa.Schema, key: str):
        self.folder = folder
        self.schema = schema
        self.key = key

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows as one new shard; nothing that is there is touched."""
        if rows:
            shard = self.folder / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.parquet"
            write_atomically(pa.Table.from_pylist(list(rows), schema=self.schema), shard)

    def missing(self, keys: Sequence[str]) -> set[str]:
        """Those of `keys` that have no row yet."""
        return set(keys) - set(self.select(keys, columns=(self.key,))[self.key].to_pylist())

    def select(self, keys: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of `keys`, each once (the earliest where two runs wrote the same)."""
        names = list(columns or self.schema.names)
        if not any(self.folder.glob("*.parquet")):
            return pa.schema([self.schema.field(name) for name in names]).empty_table()
        wanted = pa.table({"wanted": pa.array(sorted(set(keys)), pa.string())})  # noqa: F841
        listed = ", ".join(f"rows.{name}" for name in names)
        with duckdb.connect() as connection:
            return connection.sql(
                f"""
                select {listed}
                from read_parquet($shards, filename = true) as rows
                join wanted on wanted.wanted = rows.{self.key}
                qualify row_number() over (partition by rows.{self.key} order by rows.filename) = 1
                """,
                params={"shards": str(self.folder / "*.parquet")},
            ).to_arrow_table()
