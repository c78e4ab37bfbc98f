"""The reward model on TRL: a score for a whole dialogue, learned from preferences and measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from arena_assets.training.adapters import lora_of
from arena_assets.training.failures import NothingToLearn
from arena_assets.training.fitting import Log, config_of, fit_and_save, shared_arguments
from arena_assets.training.job import Job
from arena_assets.training.loading import learned_rows, rows_of, scorer, tokenizer_of, whole_parent
from arena_assets.training.measuring import (
    HELD_OUT,
    Measured,
    held_out,
    measured,
    prompt_key,
    read_measured,
    refusal,
    write_measured,
)
from arena_assets.training.progress import fitted
from arena_assets.training.ranks import is_first_process
from arena_assets.training.rewards import REWARD_MODEL
from arena_assets.training.rows import Encoder, Row, Unusable, build
from arena_assets.training.steps import WholeSteps


class UnfitRewardModel(NothingToLearn):
    """A reward model below the floor of the profile: RL may not learn from it."""


def fit_reward_model(job: Job, encoder: Encoder) -> Path:
    """Fit a reward model, measure it on the pairs that were held out, and return its folder.

    Raises UnfitRewardModel where it is below the profile's floor.
    """
    folder = job.output / REWARD_MODEL
    if not fitted(job.output, REWARD_MODEL):  # else by a run that ended later
        _fit(job, encoder, folder)
    found = read_measured(job.output)
    assert found, "a fitted reward model was measured"
    if why := refusal(found, job.reward_model_accuracy):
        raise UnfitRewardModel(why)
    return folder


def _fit(job: Job, encoder: Encoder, folder: Path) -> None:
    from trl import RewardConfig, RewardTrainer

    settings = job.training.reward_model
    pairs = rows_of(job, "preference")
    kept_back = held_out((row["messages"] for row in pairs), settings.held_out, job.seed)

    def scored(row: Row) -> Row:
        return encoder.scored_pair(row, settings.max_length)

    def learned(row: Row) -> Row:
        if prompt_key(row["messages"], job.seed) in kept_back:
            raise Unusable(HELD_OUT)
        return scored(row)

    rows = learned_rows(job, REWARD_MODEL, "preference", learned)

    shared = shared_arguments(job, settings, REWARD_MODEL, max_length=None)

    class Trainer(WholeSteps, RewardTrainer):
        pass

    trainer = Trainer(
        scorer(job, whole_parent(job), quantised=True),
        args=config_of(RewardConfig, REWARD_MODEL, shared),
        train_dataset=rows,
        processing_class=tokenizer_of(job),
        peft_config=lora_of(job, "SEQ_CLS"),
        callbacks=[Log(job.output, REWARD_MODEL)],
    )
    unseen = [row for row in pairs if prompt_key(row["messages"], job.seed) in kept_back]

    def measure() -> None:
        found = _measure(trainer, build(unseen, scored).rows, len(rows))
        if is_first_process():
            write_measured(job.output, found)
            print(f"{REWARD_MODEL}: {found}")

    fit_and_save(trainer, folder, job, REWARD_MODEL, fights=False, finish=measure)


def _measure(trainer: Any, pairs: Sequence[Row], learned_from: int) -> Measured:
    """How the fitted model scores pairs; every process scores all, as sharded weights want it."""
    chosen, rejected = ([pair[f"{side}_ids"] for pair in pairs] for side in ("chosen", "rejected"))
    texts = [*chosen, *rejected]
    scores = _scores(trainer, texts)
    lengths = [len(ids) for ids in texts]
    return measured(learned_from, scores[: len(pairs)], scores[len(pairs) :], lengths)


def _scores(trainer: Any, texts: Sequence[Sequence[int]]) -> list[float]:
    model, device = trainer.model_wrapped, trainer.accelerator.device
    size, padding = trainer.args.per_device_train_batch_size, trainer.processing_class.pad_token_id
    scores: list[float] = []
    model.eval()
    for start in range(0, len(texts), size):
        ids = [torch.tensor(text) for text in texts[start : start + size]]
        ones = [torch.ones_like(one) for one in ids]
        padded, mask = (
            torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
            for rows, value in ((ids, padding), (ones, 0))
        )
        with torch.inference_mode():
            scored = model(input_ids=padded.to(device), attention_mask=mask.to(device))
        scores += scored.logits[:, 0].float().tolist()
    return scores
