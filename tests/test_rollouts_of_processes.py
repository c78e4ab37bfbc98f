"""RL on several processes: rollouts are of all of them, and a mistake is told once."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from test_processes import TRAINING, folder, job, trained

from arena_assets.training.process import TrainingFailed, run_job

__all__ = ["folder"]  # a fixture
GROUP = 4
# a reward that also writes down what each process had rewarded
LENGTH = """
import json
import os
from pathlib import Path

def length(completions, row_id, trainer_state, **_):
    with Path(__file__).with_name(f"seen-{os.environ['RANK']}.jsonl").open("a") as file:
        for completion, row in zip(completions, row_id, strict=True):
            seen = [trainer_state.global_step, row, completion[-1]["content"]]
            file.write(json.dumps(seen) + "\\n")
    return [float(len(completion[-1]["content"])) for completion in completions]

def missing(completions, **_):
    return [completion["text"] for completion in completions]
"""
pytestmark = pytest.mark.drill


@pytest.fixture
def rewards(folder, monkeypatch) -> Path:
    (folder / "own_rewards.py").write_text(LENGTH, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.mark.parametrize("lora", [None, {"rank": 4, "merge": False}], ids=["whole", "adapter"])
def test_rollouts_hold_what_every_process_drew_with_its_rewards(rewards, lora):
    rl = TRAINING["rl"] | {"reward": "own_rewards:length", "temperature": 1.5}
    made, _ = trained(job(rewards, "rl", rl=rl, processes=2, lora=lora), "two")
    rows = pq.read_table(made / "rollouts.parquet").to_pylist()
    steps, batch = rl["max_steps"], rl["batch"]
    assert [row["policy_step"] for row in rows] == [s for s in range(steps) for _ in range(batch)]
    drawn = Counter((row["policy_step"], row["row_id"], row["completion"]) for row in rows)
    seen = [
        [tuple(json.loads(line)) for line in file.read_text("utf-8").splitlines()]
        for file in sorted(rewards.glob("seen-*.jsonl"))
    ]
    assert [len(of_one) for of_one in seen] == [steps * batch // 2] * 2, "both drew"
    assert drawn == Counter(seen[0]) + Counter(seen[1])
    for start in range(0, len(rows), GROUP):
        group = rows[start : start + GROUP]
        assert len({row["group_id"] for row in group}) == len({row["row_id"] for row in group}) == 1
        given = [row["reward"] for row in group]
        assert given == [len(row["completion"]) for row in group]
        mean, deviation = statistics.mean(given), statistics.stdev(given)
        wanted = [(reward - mean) / (deviation + 1e-4) for reward in given]
        assert [row["advantage"] for row in group] == pytest.approx(wanted, abs=1e-3)


def test_a_reward_that_fails_on_every_process_is_told_once_and_without_a_trace(rewards):
    rl = TRAINING["rl"] | {"reward": "own_rewards:missing"}
    with pytest.raises(TrainingFailed) as failed:
        run_job(job(rewards, "rl", rl=rl, processes=2), lambda line: None)
    said = str(failed.value)
    assert said.startswith("training.rl.reward: own_rewards:missing: it failed (")
    assert "own_rewards.py, line 14): TypeError" in said
    assert "\n" not in said and "Traceback" not in said
