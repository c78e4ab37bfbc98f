"""Saves steps of a training from time to time, so that a run which is killed can be gone on with.

transformers keeps weights, optimizer, scheduler and random state of a step. What it does not keep
is the order of the rows in an epoch that is under way: a sampler draws it from the random state at
the epoch's beginning, or from a generator of its own. Both are kept here.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from arena_assets.training.failures import NotFinite
from arena_assets.training.progress import SavedStep, keep_step, step_folder

_ORDER = "order.safetensors"


class StepSaver(TrainerCallback):
    """Has a step saved whenever `every` seconds have passed, but for the last one.

    `between` says whether nothing is under way: trainers that use an answer for several steps lose
    it where they are stopped before the last of them.
    """

    def __init__(
        self,
        output: Path,
        phase: str,
        every: float,
        resumed: SavedStep | None,
        between: Callable[[], bool] = lambda: True,
    ):
        self.output, self.phase, self.every, self.between = output, phase, every, between
        self.before = resumed.seconds if resumed else 0.0
        self.restored = load_file(resumed.folder / _ORDER) if resumed else None
        self.order: dict[str, torch.Tensor] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = self.saved = time.monotonic()

    def on_epoch_begin(
        self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **kwargs: Any
    ) -> None:
        generator = _generator(train_dataloader)
        if self.restored and not float(state.epoch).is_integer():
            torch.set_rng_state(self.restored["random"])
            if generator:
                generator.set_state(self.restored["sampler"])
        elif self.restored and generator:
            generator.set_state(self.restored["sampler_after"])
        self.restored = None
        self.order = {"random": torch.get_rng_state()}
        if generator:
            self.order["sampler"] = generator.get_state()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        due = time.monotonic() - self.saved >= self.every
        if args.world_size > 1:  # all save together, when the first one says so
            due = bool(broadcast(torch.tensor([int(due)], device=args.device)).item())
        last = state.global_step >= state.max_steps
        if due and not last and self.between():
            control.should_save = True

    def on_save(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any = None,
        train_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        if not all(bool(weights.isfinite().all()) for weights in model.parameters()):
            raise NotFinite(self.phase, state.global_step, "a weight", float("nan"))
        if args.world_size > 1:
            torch.distributed.barrier()  # until each has written its part
        if state.is_world_process_zero:
            generator = _generator(train_dataloader)
            after = {"sampler_after": generator.get_state()} if generator else {}
            folder = step_folder(self.output, self.phase, state.global_step)
            _drop_other_adapters(folder)
            save_file(self.order | after, folder / _ORDER)
            seconds = self.before + time.monotonic() - self.started
            keep_step(self.output, self.phase, state.global_step, seconds)
        self.saved = time.monotonic()


def _drop_other_adapters(step: Path) -> None:
    """Remove the reference of an adapter that is trained on, which TRL makes anew of the parent.

    Where a step has adapters in folders of their own, transformers 5.19 goes on with those alone,
    and the one that is trained would begin anew.
    """
    for config in step.glob("*/adapter_config.json"):
        shutil.rmtree(config.parent)


def _generator(loader: Any) -> torch.Generator | None:
    """The generator that a sampler draws the order of rows from, where it has one of its own."""
    batches = loader.batch_sampler
    batches = getattr(batches, "batch_sampler", batches)  # accelerate shares one out to processes
    return getattr(batches.sampler, "generator", None)
