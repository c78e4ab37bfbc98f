"""One training job: `python -m arena_assets.training JOB.json` (or under `accelerate launch`)."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from arena_assets.lake.durable import claim
from arena_assets.training.progress import lock_of
from arena_assets.training.ranks import end_with_the_run, is_first_process, only_errors


def _use_every_core() -> None:
    """The process that started this one may have been pinned to a core by vLLM."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


def main() -> None:
    end_with_the_run()
    _use_every_core()
    if not is_first_process():
        only_errors()
    # weights and tokenizers come from folders
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")
    from arena_assets.training.failures import STOPPED, explain
    from arena_assets.training.job import Job

    job = Job.read(Path(sys.argv[1]))
    if not job.draws_with_vllm:
        # TRL's online trainers import vLLM where it is there, for seconds. None says to Python that
        # a module is not there.
        sys.modules["vllm"] = None  # type: ignore[assignment]
    from arena_assets.training.trainers import train

    with claim(lock_of(job.output), shared=True):
        try:
            train(job)
        except Exception as error:
            if why := explain(error, job):
                if not is_first_process():
                    time.sleep(60)  # the first one says why, and the others end with it
                sys.exit(STOPPED + why)
            raise


if __name__ == "__main__":
    main()
