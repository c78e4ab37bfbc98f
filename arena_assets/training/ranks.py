"""What a process of a job knows of the others: who is first, and when all have to end."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path

RUN_LOCK = "ARENA_RUN_LOCK"  # names the file that the run which started a job has locked
RUN_HOST = "ARENA_RUN_HOST"  # and the machine that it runs on


def is_first_process() -> bool:
    """Whether this is the only process of the job, or the one that writes and speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def processes() -> int:
    """How many processes the job has, on all nodes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def only_errors() -> None:
    """Have this process say nothing but why it failed; the first one says the rest."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


def end_with_the_run() -> None:
    """Have this process end as soon as the run that started it is gone, in a thread of its own.

    Started by hand there is no run to wait for. On another node than the run's a lock of its disk
    says nothing; processes there end when those of the first node no longer answer.
    """
    watched = os.environ.get(RUN_LOCK)
    if watched and os.environ.get(RUN_HOST) in (None, socket.gethostname()):
        threading.Thread(target=_wait_and_end, args=[Path(watched)], daemon=True).start()


def _wait_and_end(lock_file: Path) -> None:
    """End this process and its group as soon as the run that started it is gone.

    The run holds the lock; to get it means that the run has ended, even by a kill that no program
    can catch. A lock file needs no pipe or parent to be handed on, so it works below any launcher.
    """
    with suppress(FileNotFoundError), lock_file.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
    os.killpg(0, signal.SIGKILL)
