"""Files that survive a crash, and locks that end with the process that holds them.

A rename is atomic but says nothing of what has reached the disk: after a power cut the new name may
stand for an empty file. So a file is synced before it is renamed, and its folder afterwards.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, overload

from filelock import FileLock, Timeout


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk before anything else happens."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Sync a folder with all files and folders below it."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            sync(path)
    sync(folder)


def replace(scratch: Path, path: Path) -> None:
    """Give a file that was written beside its place its name: a reader sees the old or the new."""
    sync(scratch)
    scratch.replace(path)
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a small file beside its place, on the disk before it gets its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name.removeprefix('.')}.{uuid.uuid4().hex}.partial")
    scratch.write_text(text, "utf-8")
    replace(scratch, path)


@contextmanager
def exclusive(lock_file: Path, what: str, log: Callable[[str], None]) -> Iterator[None]:
    """Work alone on `what`; waits for another run that does, and says so."""
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log(f"another run works on {what}: waiting for it, then taking what it made")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@overload
def claim(lock_file: Path, shared: bool = False, wait: Literal[True] = True) -> IO[bytes]: ...
@overload
def claim(lock_file: Path, shared: bool = False, *, wait: bool) -> IO[bytes] | None: ...
def claim(lock_file: Path, shared: bool = False, wait: bool = True) -> IO[bytes] | None:
    """A lock that lasts until the returned file is closed or the process ends, however it ends.

    None where it is taken and `wait` is off. Whoever has it exclusively may remove the lock file.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = lock_file.open("ab")
        try:
            fcntl.flock(file, how)
        except BlockingIOError:
            file.close()
            return None
        # a file that was removed while we waited guards nothing any more
        if lock_file.exists() and os.fstat(file.fileno()).st_ino == lock_file.stat().st_ino:
            return file
        file.close()
