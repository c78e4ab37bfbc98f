"""Runs that are killed (kill -9) at random moments end where an undisturbed one does.

A tiny real model answers, behind `vllm serve`, so that a killed run is back at work in a second.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest
from conftest import PROJECT
from drill import PROMPTS, ROUND, write_prompts

from arena_assets.lake.lake import Lake

KILLS = 10
pytestmark = pytest.mark.drill
TABLE = {"answer": ("responses", "response_id"), "judge": ("judgments", "judgment_id")}


def start(lake: Lake, phase: str, where: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "tests/drill.py", str(lake.root), phase, where]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    return subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True
    )


def finish(run: subprocess.Popen[str]) -> str:
    said, _ = run.communicate(timeout=300)
    assert run.returncode == 0, said
    return said


def shards(lake: Lake, phase: str) -> list[Path]:
    return sorted(lake.store(TABLE[phase][0]).rglob("*.parquet"))


def stored_keys(lake: Lake, phase: str) -> tuple[int, int]:
    """(rows, distinct keys) of all shards; a row that was made twice would stand there twice."""
    if not (files := [str(path) for path in shards(lake, phase)]):
        return 0, 0
    _, key = TABLE[phase]
    return duckdb.sql(
        f"select count(*), count(distinct parse_path(filename)[-2] || {key}) "
        f"from read_parquet({files!r}, filename = true)"
    ).fetchall()[0]


def kill_at_random(lake: Lake, phase: str, where: str, duration: float, draw: random.Random) -> int:
    """Start and kill KILLS runs, whole shards staying as they are; how many were at work then."""
    killed = 0
    for _ in range(KILLS):
        before = {path: path.read_bytes() for path in shards(lake, phase)}
        run = start(lake, phase, where)
        for line in run.stdout:
            if line.startswith("working"):
                break
        # what a killed run has answered stays, so ten of them must not come to the end, also where
        # the machine was three times as busy when `duration` was measured
        time.sleep(draw.uniform(0, duration / 30))
        killed += run.poll() is None
        run.send_signal(signal.SIGKILL)
        run.wait()
        run.stdout.close()
        assert all(path.read_bytes() == content for path, content in before.items())
        rows, keys = stored_keys(lake, phase)
        assert rows == keys
    return killed


def test_killed_runs_end_as_an_undisturbed_one_and_pay_for_nothing_twice(tmp_path, served_model):
    where = served_model.model_dump_json()
    undisturbed, disturbed = Lake(tmp_path / "undisturbed"), Lake(tmp_path / "disturbed")
    write_prompts(undisturbed)
    draw = random.Random(11)
    for phase in ("answer", "judge"):
        table, _ = TABLE[phase]
        run = start(undisturbed, phase, where)
        for line in run.stdout:
            if line.startswith("working"):
                break
        began = time.monotonic()
        finish(run)
        duration = time.monotonic() - began
        if phase == "answer":
            write_prompts(disturbed)
        killed = kill_at_random(disturbed, phase, where, duration, draw)
        rows, _ = stored_keys(disturbed, phase)
        finish(start(disturbed, phase, where))
        print(f"{phase}: {killed} of {KILLS} killed at work, {rows} rows kept by then")
        assert killed == KILLS and rows > 0
        expected, got = (lake.read(table, ROUND) for lake in (undisturbed, disturbed))
        if phase == "judge":
            expected, got = (t.drop_columns(["seconds"]) for t in (expected, got))
            assert expected.num_rows == 2 * PROMPTS
            assert expected["status"].to_pylist().count("ok") > PROMPTS, "real verdicts"
        else:
            assert expected.num_rows == 2 * PROMPTS and set(expected["status"].to_pylist()) == {
                "ok"
            }
        assert got.equals(expected)
        total, keys = stored_keys(disturbed, phase)
        assert total == keys == stored_keys(undisturbed, phase)[0] > rows
        assert not list((disturbed.root / "store").rglob(".*.partial")), "nothing half-written"


def test_two_runs_at_once_share_the_work(tmp_path, served_model):
    where, lake = served_model.model_dump_json(), Lake(tmp_path / "lake")
    write_prompts(lake)
    for phase in ("answer", "judge"):
        runs = [start(lake, phase, where) for _ in range(2)]
        said = [finish(run) for run in runs]
        assert any("another run works on" in words for words in said)
        rows, keys = stored_keys(lake, phase)
        assert rows == keys >= PROMPTS
        assert lake.read(TABLE[phase][0], ROUND).num_rows == 2 * PROMPTS
    shutil.rmtree(lake.root)
