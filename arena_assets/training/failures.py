"""What ends a training early, in a sentence that says what to do."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable, Iterator

from arena_assets.config.training import SECTIONS
from arena_assets.training.job import Job

STOPPED = "training stopped: "  # begins the line by which a training process says why
_FULL = (
    *("No space left on device", "Disk quota exceeded"),  # safetensors
    *("PytorchStreamWriter failed writing", "inline_container.cc"),  # torch.save never says more
)
_NO_MEMORY = ("can't allocate memory", "out of memory", "Unable to allocate", "bad_alloc")
_KILLED = (-9, 137)  # as Python and as a shell say that signal 9 ended it
_KILLED_WORKER = ("exitcode  : -9", "Signal 9 (SIGKILL)")  # as torchrun says it


class Refused(ValueError):
    """Training cannot go on as it was told to; the message says why and what would be right."""


class NothingToLearn(Refused):
    """No row of the training set can be learned; says why, by reason."""


class NoRewards(RuntimeError):
    """The rewards that were asked for could not be given; says why."""


class NotFinite(ValueError):
    """A loss, a gradient or a weight that is no finite number: nothing can be learned from it."""

    def __init__(self, phase: str, step: int, what: str, value: float):
        super().__init__(
            f"{phase}: {what} is {value} at step {step}: nothing can be learned from there on, "
            f"and nothing of it is kept; try a lower training.{phase}.learning_rate, a longer "
            f"training.{phase}.warmup, or training.dtype: float32, and look for odd rows in the "
            "training set"
        )


def explain(error: BaseException, job: Job) -> str | None:
    """The sentence for an error of which a person knows what to do; None for any other."""
    causes = list(_causes(error))
    texts = [f"{type(cause).__name__}: {cause}" for cause in causes]
    for cause in causes:
        if isinstance(cause, Refused | NoRewards | NotFinite):
            return str(cause)
    if any(isinstance(c, OSError) and c.errno in (errno.ENOSPC, errno.EDQUOT) for c in causes):
        return disk_full(job)
    if _has(texts, _FULL):
        return disk_full(job)
    if any(isinstance(cause, MemoryError) for cause in causes) or _has(texts, _NO_MEMORY):
        return out_of_memory(job, "there is no memory left for a step")
    return None


def killed(code: int, last: Iterable[str], job: Job) -> str | None:
    """The sentence for a training process that something killed; None where it ended otherwise."""
    if code in _KILLED or _has(last, _KILLED_WORKER):
        return out_of_memory(
            job, "it was killed (signal 9), which a system does that has no memory left"
        )
    return None


def disk_full(job: Job) -> str:
    place = job.output.parent
    free = shutil.disk_usage(place).free / 2**20
    return (
        f"the disk of {place} is full ({free:,.0f} MiB are free): make room, or save steps less "
        "often (training.save_every); what was saved before is kept, and the next run goes on "
        "from there"
    )


def out_of_memory(job: Job, what: str) -> str:
    sections = [(name, getattr(job.training, name)) for name in SECTIONS[job.stage]]
    rows = " and ".join(
        f"training.{name}.device_batch (now {section.device_batch}) or max_length (now "
        f"{section.max_length})"
        for name, section in sections
    )
    checkpointing = (
        "" if job.training.gradient_checkpointing else "set training.gradient_checkpointing: true, "
    )
    return (
        f"{what}: lower {rows}, {checkpointing}or give it more memory; device_batch and "
        "gradient_checkpointing change no result, so the next run goes on from the last saved step"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it."""
    seen: BaseException | None = error
    while seen:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _has(texts: Iterable[str], words: Iterable[str]) -> bool:
    return any(word in text for text in texts for word in words)
