"""How far an unfinished training has come: what the next run goes on from.

All of it lies in a hidden folder beside the weights to be, which is never part of a checkpoint:

    <output>/.progress/made_from                      what the whole is made from, written first
    <output>/.progress/lock                           shared by the processes that train into it
    <output>/.progress/sft/checkpoint-40/             weights, optimizer, scheduler, random state
    <output>/.progress/sft/checkpoint-40/whole.json   written last: the step may be gone on from
    <output>/.progress/reward_model.fitted            that phase has written its weights

The optimizer's and the random state are pickles (transformers writes them so and opens them with
weights_only): they are read by the runs of the machine that wrote them and end with the folder.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena_assets.lake.durable import claim, sync, write_text

PROGRESS = ".progress"
METRICS = "metrics.jsonl"
_STEP = "checkpoint-"  # as transformers names them
_WHOLE = "whole.json"


@dataclass(frozen=True)
class SavedStep:
    """A step that a phase can go on from; `seconds` of training led to it."""

    folder: Path
    step: int
    seconds: float


def phase_folder(output: Path, phase: str) -> Path:
    """Where a phase keeps its steps."""
    return output / PROGRESS / phase


def lock_of(output: Path) -> Path:
    """What every process holds that trains into a folder."""
    return output / PROGRESS / "lock"


def begin(output: Path, made_from: str) -> None:
    """Say what a folder that is yet to be trained into is made from."""
    write_text(output / PROGRESS / "made_from", made_from)


def continues(output: Path, made_from: str) -> bool:
    """Whether a folder was begun from these very things."""
    said = output / PROGRESS / "made_from"
    return said.exists() and said.read_text("utf-8") == made_from


def await_processes(output: Path) -> None:
    """Wait until nobody trains into a folder: processes outlive a killed run by a moment."""
    claim(lock_of(output)).close()


def saved_step(output: Path, phase: str) -> SavedStep | None:
    """The last step of a phase that was saved whole."""
    found = [_read(folder) for folder in phase_folder(output, phase).glob(f"{_STEP}*")]
    return max((step for step in found if step), key=lambda step: step.step, default=None)


def _read(folder: Path) -> SavedStep | None:
    """A step whose files are all as long as they were when it was saved.

    They are not synced one by one, which takes longer than to write them: after a power cut some
    may be empty.
    """
    whole = folder / _WHOLE
    if not whole.exists():
        return None
    said = json.loads(whole.read_text("utf-8"))
    if any(_size(folder / name) != size for name, size in said["sizes"].items()):
        return None
    return SavedStep(folder, said["step"], said["seconds"])


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.exists() else None


def step_folder(output: Path, phase: str, step: int) -> Path:
    return phase_folder(output, phase) / f"{_STEP}{step}"


def keep_step(output: Path, phase: str, step: int, seconds: float) -> None:
    """Say that a saved step is whole, and then remove those before it."""
    folder = step_folder(output, phase, step)
    files = [path for path in folder.rglob("*") if path.is_file()]
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in files}
    write_text(folder / _WHOLE, json.dumps({"step": step, "seconds": seconds, "sizes": sizes}))
    for other in folder.parent.glob(f"{_STEP}*"):
        if other != folder:
            shutil.rmtree(other)


def fitted(output: Path, phase: str) -> bool:
    """Whether a phase has written its weights."""
    return (output / PROGRESS / f"{phase}.fitted").exists()


def note_fitted(output: Path, phase: str, weights: Path) -> None:
    """Have a phase's weights on the disk and say so; its steps are of no use any more."""
    for path in (weights, *weights.rglob("*")):
        if PROGRESS not in path.parts:
            sync(path)
    write_text(output / PROGRESS / f"{phase}.fitted", "")
    shutil.rmtree(phase_folder(output, phase), ignore_errors=True)


def tidy(output: Path) -> bool:
    """Remove steps that were not saved whole; whether there is anything left to go on from."""
    progress = output / PROGRESS
    for folder in progress.glob(f"*/{_STEP}*"):
        if not _read(folder):
            shutil.rmtree(folder)
    return any(progress.glob(f"*/{_STEP}*")) or any(progress.glob("*.fitted"))


def note(output: Path, entry: dict[str, Any]) -> None:
    """Add a line to what is logged."""
    with (output / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def go_back(output: Path, phase: str, step: int) -> None:
    """Forget what a phase logged after a step: it is done, and logged, again.

    A line that a kill tore is among it, for such a line is the last one.
    """
    file = output / METRICS
    if not file.exists():
        return
    lines = file.read_text("utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    write_text(file, "".join(line for line in whole if not _after(json.loads(line), phase, step)))


def tokens_of(output: Path, phase: str) -> float:
    """How many tokens a phase has logged that it saw."""
    lines = (output / METRICS).read_text("utf-8").splitlines()
    entries = [entry for entry in map(json.loads, lines) if entry["phase"] == phase]
    return max((float(entry.get("num_tokens", 0)) for entry in entries), default=0.0)


def _after(entry: dict[str, Any], phase: str, step: int) -> bool:
    begins = step == 0 and "devices" in entry  # what is said at the beginning is said again
    return bool(entry["phase"] == phase and (entry["step"] > step or begins))
