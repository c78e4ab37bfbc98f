"""Digests of files, read once for each state of a file in this process."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple


class FileState(NamedTuple):
    """What changes when a file does, without reading it."""

    path: str
    inode: int
    size: int
    changed_ns: int


def file_state(path: Path) -> FileState | None:
    """The state of a file; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return FileState(str(path), status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=10_000)
def digest_of_state(state: FileState) -> str:
    """SHA-256 of a file that is in this state."""
    with Path(state.path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
