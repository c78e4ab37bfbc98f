"""Training in a child process: its memory is free when it ends, and it can be launched."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from arena_assets.lake.durable import claim
from arena_assets.training.failures import STOPPED, killed
from arena_assets.training.job import Job
from arena_assets.training.ranks import RUN_HOST, RUN_LOCK

# glibc gives every large block back to the system, and on a CPU the logits of each step are
# hundreds of megabytes: keeping them halves the time of a DPO step
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**28),
}


class TrainingFailed(RuntimeError):
    """Training ended with an error; the message says why, or holds the process's last lines."""


def run_job(job: Job, log: Callable[[str], None] = print) -> None:
    """Train in a child process, or in several, and hand each line that is printed to `log`.

    Raises TrainingFailed when it fails or leaves no weights, with what there is to do where that is
    known, else with the last 20 lines. Nothing but
    `job.output` is written. When this process ends, however it ends, every training process does:
    they watch a lock that it holds (see training.__main__).
    """
    with tempfile.TemporaryDirectory() as folder:
        lock_file, nodes = Path(folder) / "run.lock", job.training.nodes
        path = _job_file(job, Path(folder))
        alone = job.training.processes * nodes == 1
        module = "arena_assets.training" if alone else "arena_assets.training.launch"
        command = [*job.training.launcher, sys.executable, "-m", module, str(path)]
        # the child finds this package also where it is not installed
        search = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]
        environment = (
            _for_trackers(job)
            | os.environ
            | {
                "PYTHONPATH": os.pathsep.join(filter(None, search)),
                "PYTHONUNBUFFERED": "1",
                RUN_LOCK: str(lock_file),
                RUN_HOST: socket.gethostname(),
            }
        )
        if nodes > 1:  # the run is on the first one, as the script of a batch job is
            environment.setdefault("MASTER_ADDR", socket.gethostname())
        with claim(lock_file):
            code, last = _run(command, KEEP_MEMORY | environment, log)
        path.unlink()
    if code:
        told = next((line for line in last if STOPPED in line), "").partition(STOPPED)[2]
        if why := told or killed(code, last, job):
            raise TrainingFailed(why)
        raise TrainingFailed(f"training ended with code {code}:\n" + "\n".join(last))
    if not any(job.output.glob("*.safetensors")):
        raise TrainingFailed("training left no weights; its last lines:\n" + "\n".join(last))


def _job_file(job: Job, folder: Path) -> Path:
    """The job, where every node can read it: with several the disk of the checkpoint is shared."""
    place = job.output if job.training.nodes > 1 else folder
    place.mkdir(parents=True, exist_ok=True)
    job.write(place / "job.json")
    return place / "job.json"


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
                if not (last and STOPPED in last[0]):  # what says why is not pushed out by others
                    last.append(line)
                log(line)
        return process.wait(), last
    except BaseException:  # the run was cancelled: training must not go on alone
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
