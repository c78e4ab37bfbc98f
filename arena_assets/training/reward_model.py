"""The reward model on TRL: a score for a whole dialogue, learned from preferences."""

from __future__ import annotations

from pathlib import Path

from arena_assets.training.adapters import lora_of
from arena_assets.training.fitting import Log, fit_and_save, shared_arguments
from arena_assets.training.job import Job
from arena_assets.training.loading import learned_rows, scorer, tokenizer_of, whole_parent
from arena_assets.training.rows import Encoder

REWARD_MODEL = "reward_model"


def fit_reward_model(job: Job, encoder: Encoder) -> Path:
    from trl import RewardConfig, RewardTrainer

    settings = job.training.reward_model
    trainer = RewardTrainer(
        scorer(job, whole_parent(job), quantised=True),
        args=RewardConfig(**shared_arguments(job, settings, REWARD_MODEL, max_length=None)),
        train_dataset=learned_rows(
            job,
            REWARD_MODEL,
            "preference",
            lambda row: encoder.scored_pair(row, settings.max_length),
        ),
        processing_class=tokenizer_of(job),
        peft_config=lora_of(job, "SEQ_CLS"),
        callbacks=[Log(job.output, REWARD_MODEL)],
    )
    folder = job.output / REWARD_MODEL
    fit_and_save(trainer, folder, job)
    return folder
