"""SFT on TRL: the winner's answers are learned, with their end marks."""

from __future__ import annotations

from typing import Any

from arena_assets.training.fitting import Log, fit_and_save, shared_arguments
from arena_assets.training.job import Job
from arena_assets.training.loading import encoder_of, learned_rows, policy, tokenizer_of
from arena_assets.training.steps import WholeSteps


def sft(job: Job) -> None:
    fit_and_save(sft_trainer(job), job.output, job, "sft")


def sft_trainer(job: Job) -> Any:
    """TRL's SFT on rows with labels."""
    from trl import SFTConfig, SFTTrainer

    settings = job.training.sft
    encoder = encoder_of(job)
    dataset = learned_rows(job, "sft", "sft", lambda row: encoder.text(row, settings.max_length))
    config = SFTConfig(
        **shared_arguments(job, settings, "sft"),
        # rows of like length share a batch: on a CPU a padding token costs as much as a real one
        train_sampling_strategy="group_by_length",
        max_length=None,
    )

    class Trainer(WholeSteps, SFTTrainer):
        pass

    return Trainer(
        policy(job),
        args=config,
        train_dataset=dataset,
        processing_class=tokenizer_of(job),
        callbacks=[Log(job.output, "sft")],
    )
