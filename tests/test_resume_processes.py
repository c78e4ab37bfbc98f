"""Several processes that are killed go on together, and keep what all of them drew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from conftest import PROJECT
from test_processes import SHARDED, TRAINING, folder, furthest, job, trained
from test_resume import logged
from test_training_process import processes, wait_until

from arena_assets.training.job import Job
from arena_assets.training.progress import saved_step

__all__ = ["folder"]  # a fixture
pytestmark = pytest.mark.drill


def kill_after(given: Job, phase: str, step: int) -> None:
    """kill -9 for the run of a job as soon as it has saved a step that late."""
    temporary = given.output.with_name("temporary")
    temporary.mkdir()
    given.write(temporary / "given.json")
    code = (
        "from pathlib import Path; from arena_assets.training.process import run_job; "
        "from arena_assets.training.job import Job; "
        f"run_job(Job.read(Path({str(temporary / 'given.json')!r})))"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(PROJECT)},
    )

    def saved() -> bool:
        found = saved_step(given.output, phase)
        return bool(found and found.step >= step)

    try:
        assert wait_until(lambda: saved() or run.poll() is not None, 900)
        assert run.poll() is None, "it ended before it could be killed"
        run.send_signal(signal.SIGKILL)
        run.wait(timeout=60)
        assert wait_until(lambda: not processes(temporary), 60)
    finally:
        run.kill()


@pytest.mark.parametrize("accelerate", ["profiles/accelerate/ddp.yaml", SHARDED])
@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_processes_that_are_killed_together_go_on_together(folder, stage, accelerate):
    sections = {"rl": TRAINING["rl"] | {"max_steps": 8, "reward": "reward_model"}}
    given = job(folder, stage, processes=2, accelerate=accelerate, save_every=0, **sections)
    whole, _ = trained(given, "whole")
    cut = given.model_copy(update={"output": folder / "cut"})
    kill_after(cut, stage, 2)
    _, said = trained(given, "cut")
    assert any(f"{stage}: goes on from step" in line for line in said)
    assert furthest(whole, folder / "cut") == 0
    assert logged(folder / "cut") == logged(whole)
    if stage == "rl":
        one, two = (pq.read_table(at / "rollouts.parquet") for at in (whole, folder / "cut"))
        assert one.equals(two)
