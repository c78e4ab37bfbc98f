"""Append-only tables addressed by content: what was paid for once is never made again.

Responses and judgments are kept under a key that is the hash of all that determines them, in
Parquet shards that are written whole or not at all. A run that is killed finds its finished shards
again; rounds share them. Whoever adds to a store holds its lock, so that two runs that want the
same rows do not both pay for them: the second one waits, and then finds them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from arena_assets.durable import exclusive
from arena_assets.lake import write_atomically

logger = logging.getLogger(__name__)


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
        removed; a torn shard (a disk that lost it, a copy that broke off) is moved aside, so that
        its rows are made again.
        """
        with exclusive(self.folder / ".lock", self.folder.name, log):
            for leftover in self.folder.glob(".*.partial"):
                leftover.unlink()
            for shard in self._shards()[1]:
                aside = shard.with_name(shard.name + ".torn")
                shard.replace(aside)
                log(f"{shard}: not a whole Parquet file; moved to {aside.name}")
            yield

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows as one new shard; nothing that is there is touched."""
        if rows:
            shard = self.folder / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.parquet"
            table = pa.Table.from_pylist(list(rows), schema=self.schema)
            write_atomically(table.to_reader(), shard)

    def create_view(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        """The rows as a view, each key once (the earliest, should a copied lake hold it twice).

        A torn shard is left out with a warning: it does not hide the rows of the others.
        """
        whole, torn = self._shards()
        for shard in torn:
            logger.warning("%s: not a whole Parquet file; its rows are left out", shard)
        if whole:
            listed = ", ".join("'" + str(shard).replace("'", "''") + "'" for shard in whole)
            source = f"read_parquet([{listed}], filename = true)"
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

    def _shards(self) -> tuple[list[Path], list[Path]]:
        """The whole shards, and those that are torn."""
        whole: list[Path] = []
        torn: list[Path] = []
        for shard in sorted(self.folder.glob("*.parquet")):
            (whole if _is_whole(shard) else torn).append(shard)
        return whole, torn


def _is_whole(shard: Path) -> bool:
    """Whether a file ends with a footer that can be read, as a Parquet file does."""
    try:
        pq.read_metadata(shard)
    except pa.ArrowInvalid:
        return False
    except OSError as error:
        if error.errno:  # the file itself cannot be read
            raise
        return False
    return True
