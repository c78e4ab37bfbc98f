"""One training job: `python -m arena_assets.training JOB.json` (or under `accelerate launch`)."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

from arena_assets.training.job import RUN_LOCK


def _end_with_the_run(lock_file: Path) -> None:
    """End this process and its group as soon as the run that started it is gone.

    The run holds the lock; to get it means that the run has ended, even by a kill that no program
    can catch. A lock file needs no pipe or parent to be handed on, so it works below any launcher.
    """
    with suppress(FileNotFoundError), lock_file.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
    os.killpg(0, signal.SIGKILL)


def _use_every_core() -> None:
    """The process that started this one may have been pinned to a core by vLLM."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


def main() -> None:
    if watched := os.environ.get(RUN_LOCK):  # started by hand there is nothing to wait for
        threading.Thread(target=_end_with_the_run, args=[Path(watched)], daemon=True).start()
    _use_every_core()
    # weights and tokenizers come from folders
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")
    # TRL's online trainers import vLLM where it is there, for seconds; ours never generate with it.
    # None says to Python that a module is not there.
    sys.modules["vllm"] = None  # type: ignore[assignment]
    from arena_assets.training.job import Job
    from arena_assets.training.loading import Refused
    from arena_assets.training.trainers import train

    try:
        train(Job.read(Path(sys.argv[1])))
    except Refused as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
