"""Append-only tables addressed by content: what was paid for once is never made again.

Responses and judgments are kept under a key that is the hash of all that determines them, in
Parquet shards that are written whole or not at all. Rows that come one by one are in a journal
until their shard is written. A run that is killed finds both again; rounds share them. Whoever adds
to a store holds its lock, so that two runs that want the same rows do not both pay for them: the
second one waits, and then finds them.
"""

from __future__ import annotations

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

from arena_assets.lake.durable import exclusive
from arena_assets.lake.lake import make_writable, write_atomically, writing

logger = logging.getLogger(__name__)


def content_key_sql(*columns: str) -> str:
    """The key of a row in DuckDB: 32 hexadecimal digits over columns of text, null as nothing."""
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
        removed, what stands in its journal becomes a shard. A torn shard (a disk that lost it, a
        copy that broke off) is moved aside, so that its rows are made again.
        """
        make_writable(self.folder)
        with exclusive(self.folder / ".lock", self.folder.name, log):
            for leftover in self.folder.glob(".*.partial"):
                leftover.unlink()
            for shard in self._shards()[1]:
                aside = shard.with_name(shard.name + ".torn")
                shard.replace(aside)
                log(f"{shard}: not a whole Parquet file; moved to {aside.name}")
            self._settle()
            yield

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows as one new shard; nothing that is there is touched."""
        if rows:
            shard = self.folder / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.parquet"
            table = pa.Table.from_pylist(list(rows), schema=self.schema)
            with writing(shard):
                write_atomically(table.to_reader(), shard)

    @contextmanager
    def collecting(self) -> Iterator[Callable[[Sequence[dict[str, Any]]], None]]:
        """Takes rows as they come, each safe from then on; in the end they are one shard.

        A shard a row would make reading slow, and rows that wait in memory would be lost with the
        process: until the shard is written, they stand in a journal.
        """

        def take(rows: Sequence[dict[str, Any]]) -> None:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
            file.flush()

        try:
            with writing(self._journal), self._journal.open("a", encoding="utf-8") as file:
                yield take
        finally:
            self._settle()

    @property
    def _journal(self) -> Path:
        return self.folder / ".journal.jsonl"

    def _settle(self) -> None:
        """Make a shard of the journal; a line that was cut off is a row that was never taken."""
        if self._journal.exists():
            self.append(self._journaled())
            self._journal.unlink()

    def _journaled(self) -> list[dict[str, Any]]:
        """The rows in the journal: those of a batch under way, or of a run that was killed."""
        try:
            lines = self._journal.read_text("utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            return []
        return [row for line in lines if (row := _row(line))]

    def create_view(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        """The rows as a view, each key once (the earliest, should a copied lake hold it twice).

        A torn shard is left out with a warning: it does not hide the rows of the others.
        """
        # first, since it may become a shard at any moment
        journal = pa.Table.from_pylist(self._journaled(), schema=self.schema)
        whole, torn = self._shards()
        for shard in torn:
            logger.warning("%s: not a whole Parquet file; its rows are left out", shard)
        connection.register(f"{name}_journal", journal)
        source = f"(select *, '~' as filename from {name}_journal)"
        if whole:
            listed = ", ".join("'" + str(shard).replace("'", "''") + "'" for shard in whole)
            # shards of an earlier version may lack a column
            source += f" union all by name select * from read_parquet([{listed}], "
            source += "filename = true, union_by_name = true)"
        connection.execute(
            f"""
            create or replace temp view {name} as
            select * exclude (filename) from ({source})
            qualify row_number() over (partition by {self.key} order by filename) = 1
            """
        )

    def _shards(self) -> tuple[list[Path], list[Path]]:
        """The whole shards, and those that are torn."""
        whole: list[Path] = []
        torn: list[Path] = []
        for shard in sorted(self.folder.glob("*.parquet")):
            (whole if is_whole(shard) else torn).append(shard)
        return whole, torn


def _row(line: str) -> dict[str, Any] | None:
    """A line of a journal; None where it was cut off."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def is_whole(shard: Path) -> bool:
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
