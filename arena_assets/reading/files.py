"""Reads the rows of files as records, whatever their format, compression and encoding.

What a file is, its first bytes say before its name does: gzip, Parquet and UTF-16 are read under
any name, and what cannot be read (a zip archive, a pointer of Git LFS, a web page) is told by name.
Files are streamed. Only what lies at one place is read: nothing is guessed about types.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TextIO

import pyarrow as pa

from arena_assets.reading.csv_rows import csv_rows
from arena_assets.reading.json_rows import json_rows
from arena_assets.reading.parquet_rows import parquet_rows
from arena_assets.reading.places import COMPRESSED, FORMATS, Place, Shard, suffix_of
from arena_assets.reading.records import Record

_HEAD = 512  # bytes
_PARQUET = b"PAR1"
_COMPRESSION = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\x2a\x4d\x18": "zstd"}
_BZIP2 = b"1AY&SY"  # after BZh and a digit
_OTHERS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook; unpack it, or save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old Office document; save it as CSV",
    b"\xfd7zXZ": "an xz archive; unpack it",
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it",
    b"\x04\x22\x4d\x18": "an LZ4 archive; unpack it",
    b"ARROW1": "an Arrow (Feather) file; write it as Parquet",
    b"Obj\x01": "an Avro file; write it as Parquet",
    b"SQLite format 3": "an SQLite database; write the table as Parquet or CSV",
    b"%PDF-": "a PDF document",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; run git lfs pull",
    b"<!doctype html": "a web page; the download did not give the file itself",
    b"<html": "a web page; the download did not give the file itself",
}
_TAR = (257, b"ustar")


def read_records(
    place: Place, wanted: Callable[[str], bool] = lambda column: True
) -> Iterator[tuple[str, Record]]:
    """The records of all files of a place, each with the path of its file.

    Columns that are not `wanted` may come as UNREAD, where a format can leave them out. Raises
    ValueError, in one sentence with the file's path, for a file that is of no known type or breaks
    off; a row that cannot be read is a record with a problem.
    """
    for shard in place.shards:
        try:
            for record in _rows(shard, wanted):
                yield shard.path, record
        except UnicodeDecodeError as error:
            raise ValueError(f"{shard.path}: not {error.encoding}: {error.reason}") from None
        except (OSError, EOFError, MemoryError, pa.ArrowException) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise ValueError(f"{shard.path}: cannot be read: {reason}") from None


def _rows(shard: Shard, wanted: Callable[[str], bool]) -> Iterator[Record]:
    with shard.open() as file:
        head = file.read(_HEAD)
    compression = _compression(head)
    if compression:
        with _binary(shard, compression) as stream:
            head = stream.read(_HEAD)
    suffix = _format(shard.path, head, compression)
    if suffix == ".parquet":
        with shard.open() as file:
            yield from parquet_rows(file, shard.path, wanted)
        return
    text = partial(_text, shard, compression, _encoding(head))
    if suffix in (".csv", ".tsv"):
        yield from csv_rows(text, shard.path, "\t" if suffix == ".tsv" else ",")
    else:
        yield from json_rows(text, shard.path, by_line=suffix != ".json")


def _compression(head: bytes) -> str | None:
    if head.startswith(b"BZh") and head[4:10] == _BZIP2:
        return "bz2"
    for magic, name in _COMPRESSION.items():
        if head.startswith(magic) or (len(magic) == 3 and head[1:4] == magic):
            return name
    return None


def _format(path: str, head: bytes, compression: str | None) -> str:
    """One of FORMATS; ValueError says what the file is instead."""
    if head.startswith(_PARQUET) and compression is None:
        return ".parquet"
    if head.startswith(_PARQUET):
        raise ValueError(f"{path}: a Parquet file inside {compression}; unpack it")
    if _compression(head):
        raise ValueError(f"{path}: compressed twice; unpack it once")
    start = head.lstrip().lower()
    for magic, name in _OTHERS.items():
        if head.startswith(magic) or start.startswith(magic):
            raise ValueError(f"{path}: this is {name}")
    if head[_TAR[0] :].startswith(_TAR[1]):
        raise ValueError(f"{path}: this is a tar archive; unpack it and name the folder")
    suffix = suffix_of(path)
    if suffix == ".parquet":
        raise ValueError(f"{path}: not a Parquet file (it begins with {head[:20]!r})")
    if suffix in FORMATS:
        return suffix
    if not suffix and start[:1] in (b"{", b"["):
        return ".json"
    raise ValueError(
        f"{path}: file type {suffix!r} is not understood (valid: {', '.join(FORMATS)}, each also "
        f"with {', '.join(COMPRESSED)})"
    )


def _encoding(head: bytes) -> str:
    """UTF-8 but where a byte order mark, or a NUL beside every letter, says UTF-16 or UTF-32."""
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    even, odd = head[:20:2], head[1:20:2]
    if len(head) >= 4 and not any(odd) and all(even):
        return "utf-16-le"
    if len(head) >= 4 and not any(even) and all(odd):
        return "utf-16-be"
    return "utf-8-sig"


@contextmanager
def _binary(shard: Shard, compression: str | None) -> Iterator[Any]:
    with shard.open() as file:
        if compression is None:
            yield io.BufferedReader(file)
        else:
            with pa.CompressedInputStream(file, compression) as stream:
                yield io.BufferedReader(stream)


@contextmanager
def _text(
    shard: Shard, compression: str | None, encoding: str, newline: str | None = None
) -> Iterator[TextIO]:
    """The file as text; bytes that are none become halves of surrogate pairs, told apart later."""
    errors = "surrogateescape" if encoding == "utf-8-sig" else "surrogatepass"
    with _binary(shard, compression) as stream:
        yield io.TextIOWrapper(stream, encoding, errors, newline=newline)
