"""Runs that train are killed at random steps and started again: they end where one run would have.

The tolerance is none: on one machine the weights are the same to the last bit, and so is all that
was logged but for the seconds.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT
from test_masters import write_rows
from test_resume import logged
from test_training_process import processes, wait_until

from arena_assets.checks.results import record_tests
from arena_assets.lake.lake import Lake
from arena_assets.training.checkpoints import VERIFIED, CheckpointStore, Manifest, verified_digest

pytestmark = pytest.mark.drill
_SHORT = {"epochs": 3, "batch": 4, "device_batch": 4}  # 12 steps


class Arena:
    """A lake with the tests' model and a training set for one round, below a folder."""

    def __init__(self, folder: Path, model: Path, profile: Path, key: str, dtype: str):
        self.folder, self.key = folder, key
        self.lake = Lake(folder / "lake")
        digest = verified_digest(model, model / VERIFIED)
        row = {"name": "tiny", "origin": str(model), "path": str(model), "digest": digest}
        self.lake.write("models", [row])
        self.lake.write("arena_testset", [])
        path = self.lake.path("training_set", key)
        path.parent.mkdir()
        write_rows(path, 16)
        record_tests(self.lake, "training_set", key, {"seen": True})
        given = yaml.safe_load(profile.read_text("utf-8"))
        given["rounds"][key]["trains_from"] = "base"
        given["training"] |= {"save_every": 0, "dtype": dtype}
        for name in ("sft", "dpo", "reward_model"):
            given["training"][name] |= _SHORT
        given["training"]["rl"] |= {**_SHORT, "max_steps": 12}
        (folder / "profile.yaml").write_text(yaml.safe_dump(given), "utf-8")
        (folder / "temporary").mkdir()
        self.store = CheckpointStore(self.lake.root / "checkpoints")

    def start(self) -> subprocess.Popen[str]:
        script = ["tests/training_drill.py", str(self.folder / "profile.yaml"), str(self.lake.root)]
        return subprocess.Popen(
            [sys.executable, *script, self.key],
            cwd=PROJECT,
            env=os.environ | {"PYTHONPATH": str(PROJECT), "TMPDIR": str(self.folder / "temporary")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self) -> tuple[str, Manifest]:
        run = self.start()
        said, _ = run.communicate(timeout=900)
        assert run.returncode == 0, said
        return said, self.store.verify(self.key, thorough=True)

    def reached(self, phase: str, step: int) -> bool:
        folders = (self.store.root / ".versions").glob("*.partial")
        return any(
            (entry["phase"], entry["step"]) == (phase, step)
            for folder in folders
            for entry in _whole_lines(folder)
        )

    def kill_at(self, phase: str, step: int) -> None:
        """kill -9 for the run a moment after it logged a step; its training ends with it."""
        run = self.start()
        assert wait_until(lambda: self.reached(phase, step) or run.poll() is not None, 600)
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=60)
        assert run.returncode == -signal.SIGKILL
        assert wait_until(lambda: not processes(self.folder), 30)


def _whole_lines(folder: Path) -> list[dict]:
    try:
        return logged(folder)
    except ValueError:  # a line is being written
        return []


@pytest.mark.parametrize(
    ("key", "phases", "dtype"),
    [
        ("i01.1-sft", ["sft"], "float32"),
        ("i01.2-dpo", ["dpo"], "bfloat16"),
        ("i01.3-rl", ["reward_model", "rl"], "float32"),
    ],
)
def test_a_killed_training_ends_where_an_undisturbed_one_does(
    tiny_model, tiny_profile, tmp_path, key, phases, dtype
):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    undisturbed = Arena(tmp_path / "whole", tiny_model, tiny_profile, key, dtype)
    _, whole = undisturbed.finish()
    arena = Arena(tmp_path / "killed", tiny_model, tiny_profile, key, dtype)
    draw = random.Random(int(time.time()))
    steps = {phase: sorted(draw.sample(range(2, 12), 2)) for phase in phases}
    print(f"{key}: killed after steps {steps}")
    for phase in phases:
        for step in steps[phase]:
            arena.kill_at(phase, step)
            assert arena.store.manifest(key) is None
    said, found = arena.finish()
    assert f"{phases[-1]}: goes on from step" in said
    assert "rl" not in phases or "reward_model: step" not in said, "it was fitted before"
    assert logged(arena.store.path(key)) == logged(undisturbed.store.path(key))
    assert found.digest == whole.digest
    assert found.metrics["rows"] == whole.metrics["rows"]
    names = [path.name for path in arena.store.path(key).resolve().rglob("*")]
    assert not [name for name in names if name.endswith((".pt", ".pth", ".bin", ".pkl"))]
    assert ".progress" not in names
