"""Runs that train are killed at random moments; no checkpoint is lost, and no process stays.

A tiny real model learns from a hand-written training set, below launchers as people write them.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import PROJECT
from test_checkpoints import manifest, trained
from test_training_process import LAUNCHERS, processes, wait_until
from training_drill import ROUND

from arena_assets.checks.results import record_tests
from arena_assets.lake.lake import Lake
from arena_assets.lake.tables import MESSAGES
from arena_assets.training.checkpoints import VERIFIED, CheckpointStore, verified_digest

KILLS = 10
pytestmark = pytest.mark.drill


@pytest.fixture
def lake(tmp_path, tiny_model) -> Lake:
    """What the asset reads: the base model and a training set, some of it in two turns."""
    lake = Lake(tmp_path / "lake")
    digest = verified_digest(tiny_model, tiny_model / VERIFIED)
    row = {"name": "tiny", "origin": str(tiny_model), "path": str(tiny_model), "digest": digest}
    lake.write("models", [row])
    lake.write("arena_testset", [])
    rows = []
    for number in range(24):
        asked = [{"role": "user", "content": f"What is {number} and {number}?"}]
        said = [f"It is {2 * number}."]
        if number % 4 == 0:
            asked.append({"role": "user", "content": "And why?"})
            said.append("Because of the sum.")
        texts = {"chosen": said[-1], "chosen_turns": said, "rejected": "No", "rejected_turns": None}
        known = {"row_id": f"r{number}", "kind": "sft", "prompt_id": f"p{number}"}
        rows.append(known | {"messages": asked} | texts)
    turns = pa.list_(pa.string())
    schema = pa.schema(
        [(name, pa.string()) for name in ("row_id", "kind", "prompt_id", "chosen", "rejected")]
        + [("messages", MESSAGES), ("chosen_turns", turns), ("rejected_turns", turns)]
    )
    path = lake.path("training_set", ROUND)
    path.parent.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    record_tests(lake, "training_set", ROUND, {"seen": True})  # as dbt's would be
    return lake


def start(lake: Lake, tiny_profile: Path, seed: int, launcher: str) -> subprocess.Popen[str]:
    """A run on a profile of its own, whose seed makes another checkpoint of the same rows."""
    profile = yaml.safe_load(tiny_profile.read_text("utf-8"))
    profile["seed"] = seed
    profile["training"]["launcher"] = list(LAUNCHERS[launcher])
    file = lake.root.parent / f"profile-{seed}.yaml"
    file.write_text(yaml.safe_dump(profile), "utf-8")
    temporary = lake.root.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "tests/training_drill.py", str(file), str(lake.root)],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(versions: Path, name: str) -> None:
    """Until the run that has just started has written a file of that name."""
    known = set(versions.glob(f"*.partial/{name}"))
    assert wait_until(lambda: set(versions.glob(f"*.partial/{name}")) - known, 300)


def finish(run: subprocess.Popen[str]) -> str:
    said, _ = run.communicate(timeout=500)
    assert run.returncode == 0, said
    return said


def test_runs_that_are_killed_lose_no_checkpoint_and_leave_no_process(lake, tiny_profile):
    store = CheckpointStore(lake.root / "checkpoints")
    began = time.monotonic()
    finish(start(lake, tiny_profile, seed=0, launcher="none"))
    duration = time.monotonic() - began
    digest = store.verify(ROUND, thorough=True).digest
    live = trained(store, ROUND, b"of a run that is under way")
    draw, at_work, replaced = random.Random(3), 0, 0
    for number in range(1, KILLS + 1):
        run = start(lake, tiny_profile, number, draw.choice(sorted(LAUNCHERS)))
        if number % 2:  # while it trains
            time.sleep(draw.uniform(0.3, 0.9) * duration)
        else:  # around the commit
            wait_for(store.root / ".versions", "rows.json" if number % 4 else "config.json")
            time.sleep(draw.uniform(0, 2.5))
        at_work += run.poll() is None
        run.send_signal(draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        run.communicate(timeout=60)
        assert wait_until(lambda: not processes(lake.root.parent), 20)
        found = store.verify(ROUND, thorough=True).digest
        replaced += found != digest
        digest = found
        assert (live / "model.safetensors").read_bytes() == b"of a run that is under way"
    print(f"{at_work} of {KILLS} killed at work, {replaced} had committed by then")
    assert at_work >= KILLS // 2
    store.commit(live, manifest(live))
    said = finish(start(lake, tiny_profile, seed=99, launcher="shell"))
    assert "sft: step" in said
    folders = [path.name for path in (store.root / ".versions").iterdir() if path.is_dir()]
    assert folders == [store.path(ROUND).resolve().name], "what the dead left is gone"


def test_two_runs_at_once_train_a_round_once(lake, tiny_profile):
    runs = [start(lake, tiny_profile, seed=7, launcher="none") for _ in range(2)]
    said = [finish(run) for run in runs]
    assert sorted("sft: step 2/" in words for words in said) == [False, True]
    assert any("another run works on checkpoint i01.1-sft" in words for words in said)
    assert any("not trained again" in words for words in said)
    CheckpointStore(lake.root / "checkpoints").verify(ROUND, thorough=True)
