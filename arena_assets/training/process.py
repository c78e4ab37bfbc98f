"""Training in a child process: its memory is free when it ends, and it can be launched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from arena_assets.lake.durable import claim
from arena_assets.training.job import RUN_LOCK, Job

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

    Raises TrainingFailed with the last 20 lines when it fails or leaves no weights. Nothing but
    `job.output` is written. When this process ends, however it ends, every training process does:
    they watch a lock that it holds (see training.__main__).
    """
    with tempfile.TemporaryDirectory() as folder:
        path, lock_file = Path(folder) / "job.json", Path(folder) / "run.lock"
        job.write(path)
        launcher = list(job.training.launcher) or [sys.executable]
        command = [*launcher, "-m", "arena_assets.training", str(path)]
        # the child finds this package also where it is not installed
        search = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]
        environment = (
            _for_trackers(job)
            | os.environ
            | {
                "PYTHONPATH": os.pathsep.join(filter(None, search)),
                "PYTHONUNBUFFERED": "1",
                RUN_LOCK: str(lock_file),
            }
        )
        with claim(lock_file):
            code, last = _run(command, KEEP_MEMORY | environment, log)
    if code:
        raise TrainingFailed(f"training ended with code {code}:\n" + "\n".join(last))
    if not any(job.output.glob("*.safetensors")):
        raise TrainingFailed("training left no weights; its last lines:\n" + "\n".join(last))


def _for_trackers(job: Job) -> dict[str, str]:
    """Where trackers keep runs, unless the user's environment says it; keys are read there too."""
    arena, folder = job.run.partition("/")[0], job.tracking
    places = {"WANDB_PROJECT": arena, "MLFLOW_EXPERIMENT_NAME": arena}
    if folder:
        places |= {
            "TENSORBOARD_LOGGING_DIR": str(folder),
            "TRACKIO_DIR": str(folder.parent / "trackio"),
            "WANDB_DIR": str(folder.parent),
            "MLFLOW_TRACKING_URI": (folder.parent / "mlruns").as_uri(),
        }
    return places


def _run(
    command: list[str], environment: dict[str, str], log: Callable[[str], None]
) -> tuple[int, deque[str]]:
    """The exit code of a command and its last lines; its processes go when we are interrupted."""
    last: deque[str] = deque(maxlen=20)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,  # a group of its own, so that a launcher's children go with it
    )
    assert process.stdout  # the pipe above
    try:
        for line in process.stdout:
            if line := line.rstrip():
                last.append(line)
                log(line)
        return process.wait(), last
    except BaseException:  # the run was cancelled: training must not go on alone
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
