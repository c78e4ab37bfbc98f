"""SFT on TRL: the winner's answers are learned, with their end marks."""

from __future__ import annotations

from typing import Any

from arena_assets.training.adapters import lora_of
from arena_assets.training.fitting import Log, config_of, fit_and_save, shared_arguments
from arena_assets.training.job import Job
from arena_assets.training.loading import encoder_of, learned_rows, policy, tokenizer_of
from arena_assets.training.packing import packing_arguments, refuse_leaks
from arena_assets.training.steps import WholeSteps


def sft(job: Job) -> None:
    trainer = sft_trainer(job)
    if job.training.sft.packing:
        refuse_leaks(trainer)
    fit_and_save(trainer, job.output, job, "sft")


def sft_trainer(job: Job) -> Any:
    """TRL's SFT on rows with labels."""
    from trl import SFTConfig, SFTTrainer

    settings = job.training.sft
    encoder = encoder_of(job)
    dataset = learned_rows(job, "sft", "sft", lambda row: encoder.text(row, settings.max_length))
    # rows of like length share a batch: on a CPU a padding token costs as much as a real one
    batches = {"train_sampling_strategy": "group_by_length", "max_length": None}
    own = packing_arguments(settings) if settings.packing else batches

    class Trainer(WholeSteps, SFTTrainer):
        pass

    return Trainer(
        policy(job),
        args=config_of(SFTConfig, "sft", shared_arguments(job, settings, "sft", **own)),
        train_dataset=dataset,
        processing_class=tokenizer_of(job),
        peft_config=lora_of(job),
        callbacks=[Log(job.output, "sft")],
    )
