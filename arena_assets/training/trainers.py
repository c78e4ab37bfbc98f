"""A stage of training on TRL: SFT, DPO, or a reward model and then GRPO or RLOO.

Trainers get token rows of our own (training.rows) and neither tokenise nor cut them.

Weights are written as safetensors beside their tokenizer; what was logged goes to metrics.jsonl. A
job that was killed is gone on with (training.progress).
"""

from __future__ import annotations

import torch
from transformers import set_seed
from transformers.utils import logging as transformers_logging

from arena_assets.training.dpo import dpo
from arena_assets.training.job import Job
from arena_assets.training.progress import fitted
from arena_assets.training.reinforcement import reinforce
from arena_assets.training.sft import sft


def train(job: Job) -> None:
    """Run the job's stage, or go on with it; `job.output` holds the checkpoint when it returns.

    Raises NothingToLearn where no row is left.
    """
    set_seed(job.seed)
    transformers_logging.disable_progress_bar()
    job.output.mkdir(parents=True, exist_ok=True)  # every process of a launcher comes here
    if not fitted(job.output, job.stage):  # by a run that was killed later
        {"sft": sft, "dpo": dpo, "rl": reinforce}[job.stage](job)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
