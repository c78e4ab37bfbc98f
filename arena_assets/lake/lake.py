"""The lake: every table as one Parquet file a partition, <root>/<table>/<partition>.parquet.

A partition is written beside its place and renamed, so a reader sees the old file or the new one,
never half of one. Paths stay inside the lake. dbt writes its tables into the same layout.
"""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from arena_assets.lake import durable
from arena_assets.lake.files import digest_of_state, file_state
from arena_assets.lake.identity import VERSION
from arena_assets.lake.tables import TABLES

ALL = "all"  # the partition of a table that has none


class MissingPartition(FileNotFoundError):
    """A partition that was not materialized yet; the message says which asset to materialize."""


class NotWritable(RuntimeError):
    """A disk that is full, or a folder that may not be written; the message says which and why."""


class UnmigratedStore(NotWritable):
    """Stored answers whose keys are of an earlier version; the message says how they are kept."""


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
        reason = _FULL.get(error.errno or 0)
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
    ) -> None:
        """Replace a partition by `rows`, in the columns and order of its schema.

        A reader is streamed: no more than a batch is in memory. Raises ValueError where a column is
        missing or unknown or a required value is null, NotWritable where the disk takes no more;
        the old partition is then still there.
        """
        schema = TABLES[table].schema
        place = f"{table}/{partition}"
        if isinstance(rows, Sequence):
            _refuse_unknown({name for row in rows for name in row}, schema, place)
            rows = pa.Table.from_pylist(list(rows), schema=schema)
        if isinstance(rows, pa.Table):
            rows = rows.to_reader()
        _refuse_unknown(rows.schema.names, schema, place)
        missing = [name for name in schema.names if name not in rows.schema.names]
        if missing:
            raise ValueError(f"{place}: columns missing: {', '.join(missing)}")
        batches = (_fitted(batch, schema, place) for batch in rows)
        path = self.path(table, partition)
        with writing(path):
            write_atomically(pa.RecordBatchReader.from_batches(schema, batches), path)

    def read(
        self, table: str, partition: str = ALL, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """A whole partition; MissingPartition where it was not materialized, or is torn.

        What an earlier version did not know yet is null, as far as it may be.
        """
        path = self.present(table, partition)
        try:
            there = pq.read_schema(path).names
            lacking = {field.name: field for field in _lacking(there, table, path, columns)}
            wanted = list(columns) if columns else [*there, *lacking]
            kept = [name for name in wanted if name not in lacking]
            found = pq.read_table(path, columns=kept, partitioning=None)
        except pa.ArrowInvalid as error:
            raise MissingPartition(
                f"{path}: not a whole Parquet file ({error}); materialize the asset {table} again"
            ) from error
        for field in lacking.values():
            found = found.append_column(field, pa.nulls(len(found), field.type))
        return found.select(wanted)

    def digest(self, table: str, partition: str = ALL) -> str:
        """SHA-256 of a partition's file, read once for each state of the file."""
        state = file_state(self.present(table, partition))
        assert state, "it was there a moment ago"
        noted = self._noted(table, partition)
        if [noted.get("size"), noted.get("changed_ns")] == [state.size, state.changed_ns]:
            return noted["digest"]
        return digest_of_state(state)

    def record(
        self,
        table: str,
        partition: str,
        made_from: str,
        digest: str | None = None,
        made_of: Mapping[str, Any] | None = None,
    ) -> None:
        """Note beside a table what a partition was made from, and its digest as it was made.

        It is no part of the file: the same rows have the same digest whatever led to them. The file
        is on the disk before the note is, also where dbt wrote it. Size and time of change are
        noted too, so that a file which is as it was need not be read. A checkpoint lies elsewhere:
        its `digest` is given. `made_of` is what the hash was made of, for people to compare.
        """
        note: dict[str, Any] = {"made_from": made_from, "digest": digest, "made_of": made_of or {}}
        if digest is None:
            state = file_state(self.present(table, partition))
            assert state, "it was there a moment ago"
            durable.sync(Path(state.path))
            note["digest"] = digest_of_state(state)
            note |= {"size": state.size, "changed_ns": state.changed_ns}
        path = self._record(table, partition)
        with writing(path):
            durable.write_text(path, json.dumps(note))

    def made_from(self, table: str, partition: str, digest: str) -> str | None:
        """What was noted of a partition that still has the digest; None where nothing was."""
        noted = self._noted(table, partition)
        return noted["made_from"] if noted.get("digest") == digest else None

    def recorded(self, table: str) -> list[str]:
        """The partitions of which something was noted, also where they are gone."""
        notes = (self.root / table).glob(".*.made.json")
        return sorted(note.name[1:].removesuffix(".made.json") for note in notes)

    def made_of(self, table: str, partition: str, digest: str) -> dict[str, Any]:
        """What the hash of `made_from` was made of; empty where nothing was noted of it."""
        noted = self._noted(table, partition)
        return noted.get("made_of", {}) if noted.get("digest") == digest else {}

    def _noted(self, table: str, partition: str) -> dict[str, Any]:
        path = self._record(table, partition)
        return json.loads(path.read_text("utf-8")) if path.exists() else {}

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
                    source = self._relation(connection, *source)
                connection.register(name, source)
            yield connection

    def _relation(
        self, connection: duckdb.DuckDBPyConnection, table: str, partition: str = ALL
    ) -> duckdb.DuckDBPyRelation:
        """A partition in DuckDB, with columns of null that an earlier version did not know."""
        path = self.present(table, partition)
        relation = connection.read_parquet(str(path))
        lacking = _lacking(relation.columns, table, path)
        kinds = connection.from_arrow(pa.schema(lacking).empty_table()).types if lacking else []
        nulls = [f"null::{kind} as {f.name}" for f, kind in zip(lacking, kinds, strict=True)]
        return relation.project(", ".join(["*", *nulls]))

    def query(self, sql: str, parameters: dict[str, Any] | None = None, **tables: Any) -> pa.Table:
        """The result of SQL over `tables`, as of `connect`."""
        with self.connect(**tables) as connection:
            return connection.sql(sql, params=parameters or {}).to_arrow_table()

    def store(self, kind: str) -> Path:
        """The folder of what was paid for: "responses", "judgments" or "difficulty".

        Raises UnmigratedStore as `refuse_unmigrated` does.
        """
        self.refuse_unmigrated(kind)
        return self.stores / kind

    def refuse_unmigrated(self, *kinds: str) -> None:
        """UnmigratedStore where rows lie under keys of an earlier version: they'd be paid again."""
        for kind in kinds or ("responses", "judgments", "difficulty"):
            old = self.root / "store" / kind
            if not self.migrated.exists() and has_rows(old):
                raise UnmigratedStore(
                    f"{old}: what is stored there was made by an earlier version, under other "
                    "keys, and would be paid for again: run `arena migrate` once, which keeps it"
                )

    @property
    def stores(self) -> Path:
        """Where stores lie whose keys are of the present version."""
        return self.root / "store" / f"v{VERSION}"

    @property
    def migrated(self) -> Path:
        """The file that says that rows of an earlier version were given their new keys."""
        return self.stores / ".migrated"

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


def has_rows(folder: Path) -> bool:
    """Whether a store, or one below a folder, has rows."""
    return any(any(folder.rglob(name)) for name in ("*.parquet", ".journal.jsonl"))


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


def _refuse_unknown(names: Iterable[str], schema: pa.Schema, place: str) -> None:
    unknown = sorted(set(names) - set(schema.names))
    if unknown:
        raise ValueError(
            f"{place}: unknown columns: {', '.join(unknown)}; add them to the table in "
            f"lake/tables.py, or leave them out (there: {', '.join(schema.names)})"
        )


def _lacking(
    there: Iterable[str], table: str, path: Path, wanted: Sequence[str] | None = None
) -> list[pa.Field]:
    """The columns that an older file has not; MissingPartition where they may not be null."""
    schema = TABLES[table].schema if table in TABLES else pa.schema([])
    names = set(wanted or schema.names) - set(there)
    lacking = [field for field in schema if field.name in names]
    required = [field.name for field in lacking if not field.nullable]
    if required:
        raise MissingPartition(
            f"{path}: an earlier version wrote it, without {', '.join(required)}; materialize the "
            f"asset {table} again"
        )
    return lacking


def _fitted(batch: pa.RecordBatch, schema: pa.Schema, place: str) -> pa.RecordBatch:
    batch = batch.select(schema.names)
    for field in schema:
        if not field.nullable and (nulls := batch[field.name].null_count):
            raise ValueError(f"{place}: {nulls} rows have no {field.name}")
    return batch.cast(schema)
