"""Which rows an optimiser step sees: the same on one device and on many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class WholeSteps:
    """For a trainer: each step sees `batch` rows, however many processes share them out.

    transformers' own samplers let the last step of an epoch be a short one: a device weighs its few
    rows like a full pass, several processes fill it up with rows of the epoch's begin, and rows of
    like length are found among what one process sees. Any of it makes a step depend on the machine.
    """

    args: Any
    state: Any
    train_dataset: Any

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        rows, given = train_dataset or self.train_dataset, self.args
        passes = given.gradient_accumulation_steps * given.world_size
        grouped = given.train_sampling_strategy == "group_by_length"
        lengths = [len(ids) for ids in rows["input_ids"]] if grouped else None
        batch = given.train_batch_size * passes
        # whole epochs that are behind, also where training goes on from a saved step; accelerate
        # does not tell a sampler below several processes
        return StepSampler(
            len(rows), batch, given.seed, lengths, lambda: int(self.state.epoch or 0)
        )


class StepSampler(Sampler[int]):
    """The order of `rows` rows in an epoch, a whole number of steps of `batch` rows long.

    Where the rows do not fill the last step, it takes up again what came just before, so that it
    ends as a step of the last `batch` rows; fewer rows than a step holds come round in it. With
    `lengths` rows of like length are near each other, as transformers groups them. The order
    follows from the seed and the epoch alone, which `epoch` is asked for as one begins.
    """

    def __init__(
        self,
        rows: int,
        batch: int,
        seed: int,
        lengths: Sequence[int] | None,
        epoch: Callable[[], int],
    ):
        self.rows, self.batch, self.seed = rows, batch, seed
        self.lengths, self.epoch = lengths, epoch

    def __len__(self) -> int:
        return -(-self.rows // self.batch) * self.batch

    def __iter__(self) -> Iterator[int]:
        draw = torch.Generator().manual_seed(self.seed + self.epoch())
        if self.lengths is None:
            order = torch.randperm(self.rows, generator=draw).tolist()
        else:
            order = get_length_grouped_indices(self.lengths, self.batch, generator=draw)
        whole = self.rows - self.rows % self.batch
        yield from order[:whole]
        last = order[-self.batch :] if len(self) > whole else []
        yield from (last[place % len(last)] for place in range(self.batch) if last)
