"""The three stages on TRL: SFT, DPO, and a reward model with GRPO or RLOO.

Weights are written as safetensors beside their tokenizer; what was logged goes to metrics.jsonl. No
optimizer state is kept: a round is short, and a job that dies is started anew.
"""

from __future__ import annotations

import json
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PrinterCallback,
    TrainerCallback,
    set_seed,
)
from transformers.utils import logging as transformers_logging

from arena_assets.config import Optimisation, Training
from arena_assets.generation.dialogue import with_answers
from arena_assets.training.job import Job

METRICS = "metrics.jsonl"
REWARD_MODEL = "reward_model"


def train(job: Job) -> None:
    """Run the job's stage; `job.output` holds the checkpoint when it returns."""
    # TRL names the vLLM versions that its trainers generate with; ours never generate with vLLM
    warnings.filterwarnings("ignore", message="TRL currently supports vLLM")
    set_seed(job.seed)
    transformers_logging.disable_progress_bar()
    job.output.mkdir(parents=True)
    {"sft": _sft, "dpo": _dpo, "rl": _reinforce}[job.stage](job)
    # TRL leaves its arguments behind as a pickle
    for leftover in [*job.output.rglob("*.bin"), *job.output.rglob("*.pt")]:
        leftover.unlink()
    for scratch in job.output.glob("trainer-*"):
        shutil.rmtree(scratch)


# Every stage imports its own trainer: TRL's online trainers load vLLM, which takes seconds.
def _sft(job: Job) -> None:
    from trl import SFTConfig, SFTTrainer

    rows = _rows(job, "sft")
    dataset = Dataset.from_list(
        [{"prompt": _asked(row), "completion": _answer(row, "chosen")} for row in rows]
    )
    settings = job.training.sft
    config = SFTConfig(
        **_shared(job, settings, "sft"),
        # rows of like length share a batch: on a CPU a padding token costs as much as a real one
        train_sampling_strategy="group_by_length",
        max_length=settings.max_length,
        completion_only_loss=True,
    )
    trainer = SFTTrainer(
        _policy(job),
        args=config,
        train_dataset=dataset,
        processing_class=_tokenizer(job),
        callbacks=[_Log(job.output, "sft")],
    )
    _fit_and_save(trainer, job.output, job)


def _dpo(job: Job) -> None:
    from trl import DPOConfig, DPOTrainer

    settings = job.training.dpo
    config = DPOConfig(
        **_shared(job, settings, "dpo"),
        max_length=settings.max_length,
        beta=settings.beta,
        # one pass over the reference before training, so that only one model is in memory after it
        precompute_ref_log_probs=True,
    )
    print("dpo: computing the reference's log-probabilities")
    trainer = DPOTrainer(
        _policy(job),
        args=config,
        train_dataset=_preferences(job),
        processing_class=_tokenizer(job),
        callbacks=[_Log(job.output, "dpo")],
    )
    _fit_and_save(trainer, job.output, job)


def _reinforce(job: Job) -> None:
    """Fit a reward model to the preferences, then optimise the policy against it."""
    import trl

    prompts = Dataset.from_list([{"prompt": _asked(row)} for row in _rows(job, "prompt")])
    reward_folder = _fit_reward_model(job)
    settings = job.training.rl
    shared = _shared(job, settings, "rl")
    if settings.max_steps:
        shared["max_steps"] = settings.max_steps
    name = settings.algorithm.upper()
    config_class, trainer_class = getattr(trl, f"{name}Config"), getattr(trl, f"{name}Trainer")
    config = config_class(
        **shared,
        beta=settings.kl_coefficient,
        num_generations=settings.completions,
        max_completion_length=settings.max_completion,
        temperature=settings.temperature,
    )
    reward_model = _scorer(job, reward_folder)
    trainer = trainer_class(
        _policy(job),
        reward_funcs=reward_model,
        reward_processing_classes=_tokenizer(job),
        args=config,
        train_dataset=prompts,
        processing_class=_tokenizer(job, padding_side="left"),
        callbacks=[_Log(job.output, "rl")],
    )
    _fit_and_save(trainer, job.output, job)


def _fit_reward_model(job: Job) -> Path:
    from trl import RewardConfig, RewardTrainer

    settings = job.training.reward_model
    tokenizer = _tokenizer(job)
    model = _scorer(job, job.model)
    model.config.pad_token_id = tokenizer.pad_token_id
    config = RewardConfig(**_shared(job, settings, REWARD_MODEL), max_length=settings.max_length)
    trainer = RewardTrainer(
        model,
        args=config,
        train_dataset=_preferences(job),
        processing_class=tokenizer,
        callbacks=[_Log(job.output, REWARD_MODEL)],
    )
    folder = job.output / REWARD_MODEL
    _fit_and_save(trainer, folder, job)
    return folder


def _shared(job: Job, settings: Optimisation, phase: str) -> dict[str, Any]:
    """The arguments that every TRL trainer takes."""
    return {
        "output_dir": str(job.output / f"trainer-{phase}"),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.device_batch,
        "gradient_accumulation_steps": max(1, settings.batch // settings.device_batch),
        "warmup_steps": settings.warmup,
        "lr_scheduler_type": "cosine",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": job.seed,
        "bf16": False,  # the weights have the type of `dtype`; autocast is slower on CPU
        "gradient_checkpointing": job.training.gradient_checkpointing,
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def _rows(job: Job, kind: str) -> list[dict[str, Any]]:
    """The training rows of one kind; ValueError where there are none."""
    table = pq.read_table(
        job.training_set,
        columns=["kind", "messages", "chosen_turns", "rejected_turns"],
        filters=[("kind", "=", kind)],
        partitioning=None,
    )
    if not table.num_rows:
        raise ValueError(
            f"{job.training_set}: no rows of kind {kind!r}, which {job.stage} trains on"
        )
    return table.to_pylist()


def _preferences(job: Job) -> Dataset:
    return Dataset.from_list(
        [
            {
                "prompt": _asked(row),
                "chosen": _answer(row, "chosen"),
                "rejected": _answer(row, "rejected"),
            }
            for row in _rows(job, "preference")
        ]
    )


def _asked(row: dict[str, Any]) -> list[dict[str, str]]:
    """The dialogue up to the first turn that a contestant answered itself."""
    return with_answers(row["messages"], [])


def _answer(row: dict[str, Any], side: str) -> list[dict[str, str]]:
    """What follows the prompt: one answer, or several with the user's turns between them."""
    return with_answers(row["messages"], row[f"{side}_turns"])[len(_asked(row)) :]


def _dtype(training: Training) -> torch.dtype:
    return getattr(torch, training.dtype)


def _policy(job: Job) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        job.model, dtype=_dtype(job.training), trust_remote_code=job.trust_remote_code
    )


def _scorer(job: Job, folder: Path) -> Any:
    """A model with one output a text, as a reward model has."""
    # the head is new where the folder holds a language model: no need to warn of it
    transformers_logging.set_verbosity_error()
    return AutoModelForSequenceClassification.from_pretrained(
        folder,
        num_labels=1,
        dtype=_dtype(job.training),
        trust_remote_code=job.trust_remote_code,
    )


def _tokenizer(job: Job, padding_side: str = "right") -> Any:
    tokenizer = AutoTokenizer.from_pretrained(
        job.model, padding_side=padding_side, trust_remote_code=job.trust_remote_code
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if job.chat_template:  # the checkpoint keeps it
        tokenizer.chat_template = job.chat_template
    return tokenizer


def _fit_and_save(trainer: Any, folder: Path, job: Job) -> None:
    """Train, then write the weights with the tokenizer that they came with.

    Checkpoints are kept in bfloat16, whatever type they were trained in: it is what vLLM loads.
    """
    trainer.remove_callback(PrinterCallback)  # _Log says it in one line
    trainer.train()
    trainer.accelerator.wait_for_everyone()
    if not trainer.is_world_process_zero():
        return
    model = trainer.accelerator.unwrap_model(trainer.model).to(torch.bfloat16)
    model.save_pretrained(folder)
    _tokenizer(job).save_pretrained(folder)


class _Log(TrainerCallback):
    """Writes every logged step to metrics.jsonl and prints it with the time left."""

    def __init__(self, folder: Path, phase: str):
        self.file = folder / METRICS
        self.phase = phase
        self.started = time.monotonic()

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = time.monotonic()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs:
            return
        entry = {"phase": self.phase, "step": state.global_step, **logs}
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if "loss" in logs:
            spent = time.monotonic() - self.started
            left = spent / state.global_step * (state.max_steps - state.global_step)
            shown = {k: round(float(logs[k]), 4) for k in ("loss", "reward", "kl") if k in logs}
            numbers = ", ".join(f"{name} {value}" for name, value in shown.items())
            steps = f"step {state.global_step}/{state.max_steps}"
            print(f"{self.phase}: {steps}, {numbers}, {left:.0f} s left")
