"""The three stages on TRL: SFT, DPO, and a reward model with GRPO or RLOO.

Trainers get token rows of our own (training.rows) and neither tokenise nor cut them. For DPO that
takes a step around TRL's preparation, which knows one answer a row and would count the user's words
between several.

Weights are written as safetensors beside their tokenizer; what was logged goes to metrics.jsonl. No
optimizer state is kept: a round is short, and a job that dies is started anew.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    PrinterCallback,
    TrainerCallback,
    set_seed,
)
from transformers.utils import logging as transformers_logging

from arena_assets.config.training import Optimisation
from arena_assets.training.checkpoints import LEARNED, ROWS
from arena_assets.training.job import Job
from arena_assets.training.rows import Encoder, build

METRICS = "metrics.jsonl"
REWARD_MODEL = "reward_model"


class NothingToLearn(ValueError):
    """No row of the training set can be learned; says why, by reason."""


def train(job: Job) -> None:
    """Run the job's stage; `job.output` holds the checkpoint when it returns.

    Raises NothingToLearn where no row is left.
    """
    set_seed(job.seed)
    transformers_logging.disable_progress_bar()
    job.output.mkdir(parents=True, exist_ok=True)  # every process of a launcher comes here
    {"sft": _sft, "dpo": _dpo, "rl": _reinforce}[job.stage](job)
    if not _is_first_process():
        return
    # TRL leaves its arguments behind as a pickle
    for leftover in [*job.output.rglob("*.bin"), *job.output.rglob("*.pt")]:
        leftover.unlink()
    for scratch in job.output.glob("trainer-*"):
        shutil.rmtree(scratch)


# Every stage imports its own trainer, which takes time.
def _sft(job: Job) -> None:
    _fit_and_save(sft_trainer(job), job.output, job)


def sft_trainer(job: Job) -> Any:
    """TRL's SFT on rows with labels."""
    from trl import SFTConfig, SFTTrainer

    settings = job.training.sft
    encoder = _encoder(job)
    dataset = _dataset(job, "sft", "sft", lambda row: encoder.text(row, settings.max_length))
    config = SFTConfig(
        **_shared(job, settings, "sft"),
        # rows of like length share a batch: on a CPU a padding token costs as much as a real one
        train_sampling_strategy="group_by_length",
        max_length=None,
    )
    return SFTTrainer(
        _policy(job),
        args=config,
        train_dataset=dataset,
        processing_class=_tokenizer(job),
        callbacks=[_Log(job.output, "sft")],
    )


def _dpo(job: Job) -> None:
    _fit_and_save(dpo_trainer(job), job.output, job)


def dpo_trainer(job: Job) -> Any:
    """TRL's DPO on pairs with masks: the answers' tokens count, and nothing between them."""
    from trl import DPOConfig, DPOTrainer

    class MaskedDPOTrainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
            return dataset  # it is in tokens already

        def _precompute_ref_logps(self, *args: Any) -> Dataset:
            started = time.monotonic()
            dataset = super()._precompute_ref_logps(*args)
            if _is_first_process():
                spent = time.monotonic() - started
                _note(job.output, {"phase": "dpo", "step": 0, "reference_runtime": spent})
            return dataset

    settings = job.training.dpo
    encoder, tokenizer = _encoder(job), _tokenizer(job)
    dataset = _dataset(job, "dpo", "preference", lambda row: encoder.pair(row, settings.max_length))
    config = DPOConfig(
        **_shared(job, settings, "dpo"),
        max_length=None,
        beta=settings.beta,
        remove_unused_columns=False,
        # one pass over the reference before training, so that only one model is in memory after it
        precompute_ref_log_probs=True,
    )
    print("dpo: computing the reference's log-probabilities")
    return MaskedDPOTrainer(
        _policy(job),
        args=config,
        train_dataset=dataset,
        processing_class=tokenizer,
        data_collator=partial(collate_pairs, padding=tokenizer.pad_token_id),
        callbacks=[_Log(job.output, "dpo")],
    )


def collate_pairs(examples: list[dict[str, Any]], padding: int) -> dict[str, torch.Tensor]:
    """A batch of pairs: the chosen sides in its first half, the rejected ones in its second."""
    sides = [(example, side) for side in ("chosen", "rejected") for example in examples]

    def padded(column: str, value: int) -> torch.Tensor:
        rows = [torch.tensor(example[f"{side}_{column}"]) for example, side in sides]
        return pad_sequence(rows, batch_first=True, padding_value=value)

    ids, mask = padded("ids", padding), padded("mask", 0).long()
    lengths = torch.tensor([len(example[f"{side}_ids"]) for example, side in sides])
    batch = {
        "input_ids": ids,
        "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long(),
        "completion_mask": mask,
    }
    for column in ("ref_chosen_logps", "ref_rejected_logps"):  # there once they were computed
        if column in examples[0]:
            batch[column] = torch.tensor([example[column] for example in examples])
    return batch


def _reinforce(job: Job) -> None:
    """Fit a reward model to the preferences, then optimise the policy against it."""
    import trl

    settings = job.training.rl
    encoder, room = _encoder(job), settings.max_length - settings.max_completion
    prompts = _dataset(job, "rl", "prompt", lambda row: encoder.prompt(row, room))
    reward_folder = _fit_reward_model(job, encoder)
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


def _fit_reward_model(job: Job, encoder: Encoder) -> Path:
    from trl import RewardConfig, RewardTrainer

    settings = job.training.reward_model
    tokenizer = _tokenizer(job)
    model = _scorer(job, job.model)
    model.config.pad_token_id = tokenizer.pad_token_id
    trainer = RewardTrainer(
        model,
        args=RewardConfig(**_shared(job, settings, REWARD_MODEL), max_length=None),
        train_dataset=_dataset(
            job,
            REWARD_MODEL,
            "preference",
            lambda row: encoder.scored_pair(row, settings.max_length),
        ),
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
        "gradient_accumulation_steps": settings.batch // settings.device_batch,
        "warmup_steps": settings.warmup,
        "lr_scheduler_type": "cosine",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": job.seed,
        # products in bfloat16, weights in float32: steps at usual learning rates are smaller than
        # bfloat16 can tell apart
        "bf16": job.training.dtype == "bfloat16",
        "gradient_checkpointing": job.training.gradient_checkpointing,
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def _dataset(
    job: Job, phase: str, kind: str, make: Callable[[dict[str, Any]], dict[str, Any]]
) -> Dataset:
    """What a phase learns from; rows that are left out are told and go to rows.json, by reason."""
    columns = ["row_id", *LEARNED]
    table = pq.read_table(
        job.training_set, columns=columns, filters=[("kind", "=", kind)], partitioning=None
    )
    built = build(table.to_pylist(), make)
    if _is_first_process():
        print(f"{phase}: {built}")
        file = job.output / ROWS
        known = json.loads(file.read_text("utf-8")) if file.exists() else {}
        known[phase] = {"rows": len(built.rows), "dropped": built.dropped}
        file.write_text(json.dumps(known, indent=1, ensure_ascii=False), "utf-8")
    if not built.rows:
        raise NothingToLearn(
            f"{job.training_set}: none of {table.num_rows} rows of kind {kind!r} can be learned, "
            f"which {job.stage} trains on ({built}); see max_length under training.{phase}, the "
            "chat template and the rows themselves"
        )
    return Dataset.from_list(built.rows)


def _is_first_process() -> bool:
    """Whether this is the only process of the job, or the one that writes for all."""
    return os.environ.get("RANK", "0") == "0"


def _encoder(job: Job) -> Encoder:
    """Rows as the target sees them."""
    tokenizer = _tokenizer(job)
    return Encoder(tokenizer, {tokenizer.eos_token_id, *_stops(job)} - {None}, job.system_prompt)


def _stops(job: Job) -> list[int]:
    """The tokens at which the model stops: its generation settings say so."""
    try:
        generation = GenerationConfig.from_pretrained(job.model)
    except OSError:  # no settings of its own: those of its configuration
        generation = GenerationConfig.from_model_config(
            AutoConfig.from_pretrained(job.model, trust_remote_code=job.trust_remote_code)
        )
    stops = generation.eos_token_id
    return stops if isinstance(stops, list) else [stops] if stops is not None else []


def _policy(job: Job) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        job.model, dtype=torch.float32, trust_remote_code=job.trust_remote_code
    )


def _scorer(job: Job, folder: Path) -> Any:
    """A model with one output a text, as a reward model has."""
    # the head is new where the folder holds a language model: no need to warn of it
    transformers_logging.set_verbosity_error()
    return AutoModelForSequenceClassification.from_pretrained(
        folder,
        num_labels=1,
        dtype=torch.float32,
        trust_remote_code=job.trust_remote_code,
    )


def _tokenizer(job: Job, padding_side: str = "right") -> Any:
    tokenizer = AutoTokenizer.from_pretrained(
        job.model, padding_side=padding_side, trust_remote_code=job.trust_remote_code
    )
    if tokenizer.eos_token is None and (stops := _stops(job)):
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(stops[0])
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
    if trainer.is_world_process_zero():
        model = trainer.accelerator.unwrap_model(trainer.model).to(torch.bfloat16)
        model.save_pretrained(folder)
        _tokenizer(job).save_pretrained(folder)
    trainer.accelerator.wait_for_everyone()  # the next phase of every process reads it


def _note(folder: Path, entry: dict[str, Any]) -> None:
    with (folder / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


class _Log(TrainerCallback):
    """Writes every logged step to metrics.jsonl and prints it with the time left."""

    def __init__(self, folder: Path, phase: str):
        self.folder = folder
        self.phase = phase
        self.started = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or not logs:
            return
        _note(self.folder, {"phase": self.phase, "step": state.global_step, **logs})
        if "loss" in logs:
            spent = time.monotonic() - self.started
            left = spent / state.global_step * (state.max_steps - state.global_step)
            shown = {k: round(float(logs[k]), 4) for k in ("loss", "reward", "kl") if k in logs}
            numbers = ", ".join(f"{name} {value}" for name, value in shown.items())
            steps = f"step {state.global_step}/{state.max_steps}"
            print(f"{self.phase}: {steps}, {numbers}, {left:.0f} s left")
