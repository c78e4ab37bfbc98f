"""Where files of rows lie: a file, a folder or a pattern, on this machine or in an object store."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from arena_assets.lake.files import digest_of_state, file_state

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
COMPRESSED = (".gz", ".zst", ".zstd", ".bz2")


@dataclass(frozen=True)
class Shard:
    """One file of a collection; `path` is how a person would name it."""

    path: str
    filesystem: fs.FileSystem
    inside: str

    def open(self) -> pa.NativeFile:
        return self.filesystem.open_input_file(self.inside)

    def info(self) -> fs.FileInfo:
        return self.filesystem.get_file_info(self.inside)


@dataclass(frozen=True)
class Place:
    """The files of a collection, and those of its folders that are none of any known type."""

    shards: tuple[Shard, ...]
    left_out: tuple[str, ...] = ()


def filesystem_of(path: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or URI, and the path in it; keys come from the environment."""
    if "://" not in path:
        return fs.LocalFileSystem(), str(Path(path).absolute())
    try:
        return fs.FileSystem.from_uri(path)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{path}: no place that can be read (valid: s3://, gs://): {error}"
        ) from None


def suffix_of(name: str) -> str:
    """The suffix that says what a file holds: that before .gz, in small letters.

    >>> suffix_of("prompts.JSONL.gz"), suffix_of("README")
    ('.jsonl', '')
    """
    path = PurePosixPath(name.lower())
    return PurePosixPath(path.stem).suffix if path.suffix in COMPRESSED else path.suffix


def locate(path: str) -> Place:
    """The files that a path, a folder or a pattern (*, ?, [..], **) names, in order.

    Of a folder, all files of a known type count, below it too, but those whose names begin with a
    dot or an underscore. FileNotFoundError where there is none, ValueError for a place that cannot
    be read.
    """
    filesystem, inside = filesystem_of(path)
    try:
        kind = filesystem.get_file_info(inside).type
        if kind == fs.FileType.File:
            return Place((Shard(path, filesystem, inside),))
        if kind == fs.FileType.Directory:
            place = _folder(path, filesystem, inside)
            reason = f"no file of a known type in it ({', '.join(FORMATS)})"
        elif any(sign in inside for sign in "*?["):
            place, reason = _pattern(path, filesystem, inside), "no file fits this pattern"
        else:
            place, reason = Place(()), "no such file"
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
    if not place.shards:
        raise FileNotFoundError(f"{path}: {reason}")
    return place


def _folder(path: str, filesystem: fs.FileSystem, inside: str) -> Place:
    found, left_out = [], []
    listed = filesystem.get_file_info(fs.FileSelector(inside, recursive=True))
    for name in sorted(info.path for info in listed if info.type == fs.FileType.File):
        below = PurePosixPath(name).relative_to(inside)
        if any(part.startswith((".", "_")) for part in below.parts):
            continue
        shard = Shard(f"{path.rstrip('/')}/{below}", filesystem, name)
        if suffix_of(name) in FORMATS:
            found.append(shard)
        else:
            left_out.append(shard.path)
    return Place(tuple(found), tuple(left_out))


def _pattern(path: str, filesystem: fs.FileSystem, inside: str) -> Place:
    from fsspec.implementations.arrow import ArrowFSWrapper

    scheme = path[: path.index("://") + 3] if "://" in path else ""
    shards: list[Shard] = []
    left_out: list[str] = []
    for name in sorted(ArrowFSWrapper(filesystem).glob(inside)):
        if filesystem.get_file_info(name).type == fs.FileType.Directory:
            below = _folder(scheme + name, filesystem, name)
            shards += below.shards
            left_out += below.left_out
        else:
            shards.append(Shard(scheme + name, filesystem, name))
    unique = {shard.inside: shard for shard in shards}  # ** names what is in a folder twice
    return Place(tuple(unique.values()), tuple(dict.fromkeys(left_out)))


def digest_of(path: str) -> str:
    """SHA-256 of a file, or of the names and digests of the files of a folder or pattern."""
    shards = locate(path).shards
    digests = [_digest(shard) for shard in shards]
    if len(shards) == 1:
        return digests[0]
    folder = os.path.commonpath([shard.inside for shard in shards])
    names = [os.path.relpath(shard.inside, folder) for shard in shards]
    parts = [f"{name} {digest}" for name, digest in zip(names, digests, strict=True)]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _digest(shard: Shard) -> str:
    local = isinstance(shard.filesystem, fs.LocalFileSystem)
    if state := file_state(Path(shard.inside)) if local else None:
        return digest_of_state(state)
    with shard.open() as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
