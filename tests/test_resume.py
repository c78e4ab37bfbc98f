"""A training that is killed goes on from its last saved step, to where it would have come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_masters import job_of, settings, tensors, write_rows

from arena_assets.training.progress import saved_step
from arena_assets.training.summaries import read_metrics

TIMES = ("runtime", "per_second", "step_time", "flos")


class Killed(Exception):
    """Where a kill would have ended the process."""


def logged(output: Path) -> list[dict[str, Any]]:
    """What was logged, without how long it took."""
    return [
        {name: value for name, value in entry.items() if not any(t in name for t in TIMES)}
        for entry in read_metrics(output)
        if "train_runtime" not in entry
    ]


def end_after(monkeypatch, phase: str, step: int) -> None:
    """Training ends after a step was logged and before anything else happens."""
    from arena_assets.training import fitting

    def write(output: Path, entry: dict[str, Any]) -> None:
        progress.note(output, entry)
        if (entry["phase"], entry["step"]) == (phase, step) and "loss" in entry:
            raise Killed

    from arena_assets.training import progress

    monkeypatch.setattr(fitting, "note", write)


@pytest.mark.parametrize(
    ("stage", "phase", "step"),
    [
        ("sft", "sft", 6),  # of 8, in the second epoch
        pytest.param("dpo", "dpo", 6, marks=pytest.mark.drill),
        pytest.param("rl", "reward_model", 3, marks=pytest.mark.drill),
        pytest.param("rl", "rl", 6, marks=pytest.mark.drill),  # of 10, in the second epoch
    ],
)
def test_a_training_that_ends_between_steps_goes_on_as_if_it_had_not(
    tiny_model, tmp_path, monkeypatch, stage, phase, step
):
    from arena_assets.training.trainers import train

    sections = {
        name: {"epochs": epochs, "batch": 8, "device_batch": 4}
        for name, epochs in {"sft": 2, "dpo": 2, "reward_model": 4}.items()
    }
    reinforcement = {"epochs": 2, "max_steps": 10, "batch": 8, "device_batch": 4}
    training = settings(save_every=0, rl=reinforcement, **sections)
    rows = write_rows(tmp_path / "rows.parquet", 28 if stage != "rl" else 8)
    whole, cut = (
        job_of(stage, tiny_model, rows, tmp_path / name, training) for name in ("whole", "cut")
    )
    train(whole)
    with monkeypatch.context() as patch:
        end_after(patch, phase, step)
        with pytest.raises(Killed):
            train(cut)
    assert saved_step(cut.output, phase).step == step - 1
    train(cut)
    assert logged(cut.output) == logged(whole.output)
    for name, weights in tensors(whole.output).items():
        assert (tensors(cut.output)[name] == weights).all(), name
