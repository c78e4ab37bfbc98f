"""One training job: `python -m arena_assets.training JOB.json` (or under `accelerate launch`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def _use_every_core() -> None:
    """The process that started this one may have been pinned to a core by vLLM."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


def main() -> None:
    _use_every_core()
    # weights and tokenizers come from folders
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")
    from arena_assets.training.job import Job
    from arena_assets.training.trainers import train

    train(Job.read(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
