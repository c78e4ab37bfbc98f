"""One phase of training: TRL's shared arguments, its steps in metrics.jsonl, its weights saved."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from arena_assets.config.training import Optimisation
from arena_assets.training.adapters import (
    has_adapter,
    is_kept_adapter,
    merged,
    scores,
    train_in_float32,
    write_adapter,
)
from arena_assets.training.job import Job
from arena_assets.training.loading import policy, scorer, tokenizer_of, whole_parent

METRICS = "metrics.jsonl"


def shared_arguments(job: Job, settings: Optimisation, phase: str, **own: Any) -> dict[str, Any]:
    """The arguments of a phase's TRL trainer: those of all, its own, and the profile's `trl:`.

    The profile's come last: what it must not say was refused when it was read (config.trl).
    """
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
        "report_to": list(job.training.report_to),
        "run_name": job.run if phase == job.stage else f"{job.run}/{phase}",
        "project": job.run.partition("/")[0],
        "disable_tqdm": True,
        "seed": job.seed,
        # products in bfloat16, weights in float32: steps at usual learning rates are smaller than
        # bfloat16 can tell apart
        "bf16": job.training.dtype == "bfloat16",
        "gradient_checkpointing": job.training.gradient_checkpointing,
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        **own,
        **settings.trl,
    }


def fit_and_save(trainer: Any, folder: Path, job: Job) -> None:
    """Train, then write the weights with the tokenizer that they came with.

    Checkpoints are kept in bfloat16, whatever type they were trained in: it is what vLLM loads.
    """
    trainer.remove_callback(PrinterCallback)  # _Log says it in one line
    train_in_float32(trainer.model)
    trainer.train()
    trainer.accelerator.wait_for_everyone()
    weights = trainer.accelerator.get_state_dict(trainer.model)
    if trainer.is_world_process_zero():
        model = trainer.accelerator.unwrap_model(trainer.model)
        if is_kept_adapter(model, job):
            write_adapter(model, weights, folder)
        else:
            if has_adapter(model):
                model = _merged(model, weights, job)
            model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer_of(job).save_pretrained(folder)
    trainer.accelerator.wait_for_everyone()  # the next phase of every process reads it


def _merged(model: Any, weights: dict[str, torch.Tensor], job: Job) -> Any:
    """The model that training started from, with the adapter that it learned."""
    start = scorer(job, whole_parent(job)) if scores(model) else policy(job, whole=True)
    return merged(model, weights, start)


def note(folder: Path, entry: dict[str, Any]) -> None:
    with (folder / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


class Log(TrainerCallback):
    """Writes every logged step to metrics.jsonl and prints it with the time left."""

    def __init__(self, folder: Path, phase: str):
        self.folder = folder
        self.phase = phase
        self.started = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.monotonic()
        if state.is_world_process_zero:
            devices = {"devices": args.world_size, "device": args.device.type}
            note(self.folder, {"phase": self.phase, "step": 0, **devices})

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or not logs:
            return
        note(self.folder, {"phase": self.phase, "step": state.global_step, **logs})
        if "loss" in logs:
            spent = time.monotonic() - self.started
            left = spent / state.global_step * (state.max_steps - state.global_step)
            shown = {k: round(float(logs[k]), 4) for k in ("loss", "reward", "kl") if k in logs}
            numbers = ", ".join(f"{name} {value}" for name, value in shown.items())
            steps = f"step {state.global_step}/{state.max_steps}"
            print(f"{self.phase}: {steps}, {numbers}, {left:.0f} s left")
