"""Training in a child process: its memory is free when it ends, and it can be launched."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path

from arena_assets.config import PROJECT
from arena_assets.training.job import Job

# glibc gives every large block back to the system, and on a CPU the logits of each step are
# hundreds of megabytes: keeping them halves the time of a DPO step
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**28),
}


class TrainingFailed(RuntimeError):
    """The training process ended with an error; the message holds its last lines."""


def run_job(job: Job, log: Callable[[str], None] = print) -> None:
    """Train in a child process (`launcher` is put before it) and hand each line it prints to `log`.

    Raises TrainingFailed with the last 20 lines when it fails. Nothing but `job.output` is written.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        job.write(path)
        launcher = list(job.training.launcher) or [sys.executable]
        command = [*launcher, "-m", "arena_assets.training", str(path)]
        # the child finds this package also where it is not installed
        search = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=KEEP_MEMORY | os.environ | {"PYTHONPATH": search, "PYTHONUNBUFFERED": "1"},
        )
        last: deque[str] = deque(maxlen=20)
        try:
            for line in process.stdout:
                if line := line.rstrip():
                    last.append(line)
                    log(line)
        except BaseException:  # the run was cancelled: training must not go on alone
            process.kill()
            raise
        finally:
            code = process.wait()
        if code:
            raise TrainingFailed(f"training ended with code {code}:\n" + "\n".join(last))
