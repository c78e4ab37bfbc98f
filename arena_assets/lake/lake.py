"""The lake: every table as one Parquet file a partition, <root>/<table>/<partition>.parquet.

A partition is written beside its place and renamed, so a reader sees the old file or the new one,
never half of one. Paths stay inside the lake. dbt writes its tables into the same layout.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from arena_assets.lake import durable
from arena_assets.lake.tables import TABLES

ALL = "all"  # the partition of a table that has none
_FINGERPRINT = b"arena.fingerprint"


class MissingPartition(FileNotFoundError):
    """A partition that was not materialized yet; the message says which asset to materialize."""


class NotWritable(RuntimeError):
    """A disk that is full, or a folder that may not be written; the message says which and why."""


_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "files may not grow that large here",
    errno.EROFS: "it is on a read-only file system",
}
_FORBIDDEN = {errno.EACCES, errno.EPERM}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the disk below become NotWritable, with `path` and the reason in one sentence."""
    try:
        yield
    except OSError as error:
        reason = _FULL.get(error.errno)
        # what is read meanwhile may be forbidden as well, and is another matter
        if error.errno in _FORBIDDEN and str(path.parent) in str(error):
            reason = "this user may not write there"
        if reason is None:
            raise
        raise NotWritable(
            f"{path}: cannot be written, {reason}; what was finished before is kept: mend that and "
            "start again"
        ) from error


def make_writable(folder: Path) -> None:
    """Make a folder where it is missing; NotWritable where nothing can be written into it."""
    with writing(folder / "a file"):
        folder.mkdir(parents=True, exist_ok=True)
        effective = os.access in os.supports_effective_ids
        if not os.access(folder, os.W_OK, effective_ids=effective):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


class Lake:
    """Tables below one folder."""

    def __init__(self, root: str | Path):
        self.root = Path(root).resolve()

    def path(self, table: str, partition: str = ALL) -> Path:
        """Where a partition lies; ValueError for a name that would leave the lake."""
        path = (self.root / table / f"{partition}.parquet").resolve()
        if self.root not in path.parents:
            raise ValueError(
                f"table {table!r}, partition {partition!r}: outside the lake {self.root}"
            )
        return path

    def exists(self, table: str, partition: str = ALL) -> bool:
        return self.path(table, partition).exists()

    def partitions(self, table: str) -> list[str]:
        """The partitions that are there, in order."""
        return sorted(path.stem for path in (self.root / table).glob("*.parquet"))

    def write(
        self,
        table: str,
        rows: pa.RecordBatchReader | pa.Table | Sequence[dict[str, Any]],
        partition: str = ALL,
        fingerprint: str | None = None,
    ) -> None:
        """Replace a partition by `rows`, in the columns and order of its schema.

        A reader is streamed: no more than a batch is in memory. Raises ValueError where a column is
        missing or a required value is null, NotWritable where the disk takes no more; the old
        partition is then still there. `fingerprint` (a
        hash of what the rows were made from) is kept in the file's metadata.
        """
        schema = TABLES[table].schema
        if isinstance(rows, Sequence):
            rows = pa.Table.from_pylist(list(rows), schema=schema)
        if isinstance(rows, pa.Table):
            rows = rows.to_reader()
        place = f"{table}/{partition}"
        missing = [name for name in schema.names if name not in rows.schema.names]
        if missing:
            raise ValueError(f"{place}: columns missing: {', '.join(missing)}")
        if fingerprint:
            schema = schema.with_metadata({_FINGERPRINT: fingerprint.encode()})
        batches = (_fitted(batch, schema, place) for batch in rows)
        path = self.path(table, partition)
        with writing(path):
            write_atomically(pa.RecordBatchReader.from_batches(schema, batches), path)

    def read(
        self, table: str, partition: str = ALL, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """A whole partition; MissingPartition where it was not materialized, or is torn."""
        path = self.present(table, partition)
        wanted = list(columns) if columns else None
        try:
            return pq.read_table(path, columns=wanted, partitioning=None)
        except pa.ArrowInvalid as error:
            raise MissingPartition(
                f"{path}: not a whole Parquet file ({error}); materialize the asset {table} again"
            ) from error

    def fingerprint(self, table: str, partition: str = ALL) -> str | None:
        """What a partition says it was made from; None where missing, torn or silent."""
        if not self.exists(table, partition):
            return None
        try:
            metadata = pq.read_schema(self.path(table, partition)).metadata or {}
        except pa.ArrowInvalid:
            return None
        value = metadata.get(_FINGERPRINT)
        return value.decode() if value else None

    def digest(self, table: str, partition: str = ALL) -> str:
        """SHA-256 of a partition's file."""
        with self.present(table, partition).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def record(self, table: str, partition: str, fingerprint: str, digest: str) -> None:
        """Note beside a table what a partition was made from, and its digest as it was made.

        It is no part of the file: the same rows have the same digest whatever led to them. The file
        is on the disk before the note is, also where dbt wrote it.
        """
        if self.exists(table, partition):  # a checkpoint lies elsewhere
            durable.sync(self.path(table, partition))
        path = self._record(table, partition)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        scratch.write_text(json.dumps({"made_from": fingerprint, "digest": digest}), "utf-8")
        durable.replace(scratch, path)

    def made_from(self, table: str, partition: str, digest: str) -> str | None:
        """What was noted of a partition that still has the digest; None where nothing was."""
        path = self._record(table, partition)
        noted = json.loads(path.read_text("utf-8")) if path.exists() else {}
        return noted["made_from"] if noted.get("digest") == digest else None

    def _record(self, table: str, partition: str) -> Path:
        place = self.path(table, partition)
        return place.with_name(f".{place.stem}.made.json")

    @contextmanager
    def connect(self, **tables: Any) -> Iterator[duckdb.DuckDBPyConnection]:
        """DuckDB over `tables`: an Arrow table, or (table, partition) of the lake.

        What does not fit into its memory is spilled to the lake's folder.
        """
        with duckdb.connect(config={"temp_directory": str(self.root / ".spill")}) as connection:
            for name, source in tables.items():
                if isinstance(source, tuple):
                    source = connection.read_parquet(str(self.present(*source)))
                connection.register(name, source)
            yield connection

    def query(self, sql: str, parameters: dict[str, Any] | None = None, **tables: Any) -> pa.Table:
        """The result of SQL over `tables`, as of `connect`."""
        with self.connect(**tables) as connection:
            return connection.sql(sql, params=parameters or {}).to_arrow_table()

    def present(self, table: str, partition: str = ALL) -> Path:
        """The file of a partition; MissingPartition where it was not materialized."""
        path = self.path(table, partition)
        if not path.exists():
            which = f"partition {partition} of " if partition != ALL else ""
            there = ", ".join(self.partitions(table)) or "nothing"
            raise MissingPartition(
                f"{path}: not there; materialize {which}the asset {table} first (there: {there})"
            )
        return path


def write_atomically(rows: pa.RecordBatchReader, path: Path) -> None:
    """Write a Parquet file beside its place, batch by batch; on the disk before it is renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with pq.ParquetWriter(scratch, rows.schema) as writer:
            for batch in rows:
                writer.write_batch(batch)
        durable.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def _fitted(batch: pa.RecordBatch, schema: pa.Schema, place: str) -> pa.RecordBatch:
    batch = batch.select(schema.names)
    for field in schema:
        if not field.nullable and (nulls := batch[field.name].null_count):
            raise ValueError(f"{place}: {nulls} rows have no {field.name}")
    return batch.cast(schema)
