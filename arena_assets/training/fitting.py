"""One phase of training: TRL's shared arguments, its steps in metrics.jsonl, its weights saved."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from arena_assets.config.training import Optimisation, passes
from arena_assets.training.adapters import (
    has_adapter,
    is_kept_adapter,
    merged,
    scores,
    train_in_float32,
    write_adapter,
)
from arena_assets.training.checkpoints import MASTERS
from arena_assets.training.failures import NotFinite, Refused
from arena_assets.training.gathering import gathered
from arena_assets.training.job import Job
from arena_assets.training.loading import policy, scorer, tokenizer_of, whole_parent
from arena_assets.training.masters import copy_in_bfloat16, moved
from arena_assets.training.progress import (
    go_back,
    note,
    note_fitted,
    phase_folder,
    saved_step,
    tokens_of,
)
from arena_assets.training.ranks import processes
from arena_assets.training.saving import StepSaver


def shared_arguments(job: Job, settings: Optimisation, phase: str, **own: Any) -> dict[str, Any]:
    """The arguments of a phase's TRL trainer: those of all, its own, and the profile's `trl:`.

    The profile's come last: what it must not say was refused when it was read (config.trl).
    """
    return {
        "output_dir": str(phase_folder(job.output, phase)),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.device_batch,
        # passes of one process; all of them together see `batch` rows a step
        "gradient_accumulation_steps": passes(settings.batch, settings.device_batch, processes()),
        "warmup_steps": settings.warmup,
        "lr_scheduler_type": "cosine",
        "logging_steps": 1,
        "save_strategy": "no",  # StepSaver says when
        "logging_nan_inf_filter": False,  # Log stops at what is not finite
        "report_to": list(job.training.report_to),
        "run_name": job.run if phase == job.stage else f"{job.run}/{phase}",
        "project": job.run.partition("/")[0],
        "disable_tqdm": True,
        "seed": job.seed,
        # products in bfloat16, weights in float32: steps at usual learning rates are smaller than
        # bfloat16 can tell apart
        "bf16": job.training.dtype == "bfloat16",
        "gradient_checkpointing": job.training.gradient_checkpointing,
        "ddp_find_unused_parameters": False,  # there are none, and the search takes a pass a step
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        **own,
        **settings.trl,
    }


def config_of(kind: Callable[..., Any], phase: str, arguments: dict[str, Any]) -> Any:
    """A phase's configuration of TRL; Refused where its arguments do not go together."""
    try:
        return kind(**arguments)
    except (ValueError, ImportError) as error:
        said = " ".join(str(error).split())
        raise Refused(f"training.{phase}, of which trl is a part, does not fit: {said}") from error


def fit_and_save(
    trainer: Any,
    folder: Path,
    job: Job,
    phase: str,
    fights: bool = True,
    finish: Callable[[], None] | None = None,
) -> None:
    """Train, then write the weights with the tokenizer that they came with.

    A phase in which a run before was killed goes on from its last saved step. `fights` is off for a
    model that vLLM never loads: it is kept in float32 alone. `finish` is done by every process
    before the phase counts as fitted. Raises NotFinite where the loss, the gradient or a weight is
    no number any more.
    """
    train_in_float32(trainer.model)
    _train(trainer, job, phase)
    weights = gathered(trainer)
    if trainer.is_world_process_zero():
        save(trainer.accelerator.unwrap_model(trainer.model), weights, folder, job, fights)
        shares = {} if job.adapter else moved(job.model, folder)
        told = {f"moved_{name}": share for name, share in shares.items()}
        note(job.output, {"phase": phase, "step": trainer.state.global_step, **told})
    if finish:
        finish()
    if trainer.is_world_process_zero():
        note_fitted(job.output, phase, folder)
    trainer.accelerator.wait_for_everyone()  # the next phase of every process reads it


def _train(trainer: Any, job: Job, phase: str) -> None:
    """Train from the beginning or from the last saved step on, saving steps on the way."""
    trainer.remove_callback(PrinterCallback)  # Log says it in one line
    step = saved_step(job.output, phase)
    if trainer.is_world_process_zero():
        go_back(job.output, phase, step.step if step else 0)
    if step:
        # TRL counts tokens in the trainer, which transformers does not save
        trainer._total_train_tokens = tokens_of(job.output, phase)
        print(f"{phase}: goes on from step {step.step}, which a run before saved")
    every = job.training.save_every * 60
    between = partial(_is_between_answers, trainer)
    trainer.add_callback(StepSaver(job.output, phase, every, step, between))
    trainer.train(resume_from_checkpoint=str(step.folder) if step else None)


def _is_between_answers(trainer: Any) -> bool:
    """Whether an online trainer has used up what it generated last; others have nothing to use."""
    passes = getattr(trainer.args, "steps_per_generation", None)
    # TRL counts passes from where it was started, which was between answers
    return passes is None or trainer._step % (passes * trainer.num_iterations) == 0


def save(
    model: Any, weights: dict[str, torch.Tensor], folder: Path, job: Job, fights: bool
) -> None:
    """Write a model: float32 masters, the bfloat16 copy that vLLM loads, or both (see masters).

    Of one with an adapter, the adapter alone, or the weights that training started from with it.
    """
    if has_adapter(model) and is_kept_adapter(model, job):
        write_adapter(model, weights, folder)
        tokenizer_of(job).save_pretrained(folder)
        return
    if has_adapter(model):
        start = scorer(job, whole_parent(job)) if scores(model) else policy(job, whole=True)
        model = merged(model, weights, start)
        weights = model.state_dict()
    if not fights or (job.training.dtype == "float32" and job.training.keep_masters):
        model.save_pretrained(folder, state_dict=weights)
    else:
        masters = folder / MASTERS
        model.save_pretrained(masters, state_dict=weights)
        copy_in_bfloat16(masters, folder)
        if not job.training.keep_masters:
            shutil.rmtree(masters)
    tokenizer_of(job).save_pretrained(folder)


class Log(TrainerCallback):
    """Writes every logged step to metrics.jsonl and prints it with the time left."""

    def __init__(self, folder: Path, phase: str):
        self.folder = folder
        self.phase = phase

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.monotonic()
        self.first = state.global_step
        step = saved_step(self.folder, self.phase)
        self.before = step.seconds if step else 0.0
        if state.is_world_process_zero and not step:
            devices = {"devices": args.world_size, "device": args.device.type}
            note(self.folder, {"phase": self.phase, "step": 0, **devices})

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not logs:
            return
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0)):
                raise NotFinite(self.phase, state.global_step, f"the {name}", logs[name])
        if not state.is_world_process_zero:
            return
        if "train_runtime" in logs:  # with what was spent before a kill
            logs = logs | {"train_runtime": self.before + logs["train_runtime"]}
        note(self.folder, {"phase": self.phase, "step": state.global_step, **logs})
        if "loss" in logs:
            spent = time.monotonic() - self.started
            each = spent / max(1, state.global_step - self.first)
            left = each * (state.max_steps - state.global_step)
            shown = {k: round(float(logs[k]), 4) for k in ("loss", "reward", "kl") if k in logs}
            numbers = ", ".join(f"{name} {value}" for name, value in shown.items())
            steps = f"step {state.global_step}/{state.max_steps}"
            print(f"{self.phase}: {steps}, {numbers}, {left:.0f} s left")
