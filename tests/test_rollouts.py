"""Rollouts of RL: every completion is kept with its rewards, and they are the ones that count."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from reinforcing import CONSTRAINTS, job_of, prompt_row

from arena_assets.training.process import run_job
from arena_assets.training.rollouts import rollout_rows, weighted
from arena_assets.training.summaries import read_metrics
from arena_assets.verifying.constraints import parse_constraints
from arena_assets.verifying.verifier import verify

GROUP = 4
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reinforced(tiny_model, tmp_path_factory) -> Path:
    """A checkpoint of two steps, each over two prompts with four completions."""
    rows = [prompt_row(number) for number in range(6)]
    weights = {"verifier": 0.75, "brevity:short": 0.25}
    folder = tmp_path_factory.mktemp("reinforced")
    (folder / "brevity.py").write_text(
        "def short(completions, prompt_id, **_):\n"
        "    return [float(len(c[-1]['content'])) for c in completions]\n"
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(folder))
        patched.syspath_prepend(str(folder))
        job = job_of(folder / "job", tiny_model, rows, {"reward": weights, "temperature": 1.5})
        run_job(job, print)
    return job.output


def test_every_completion_of_every_step_is_a_row(reinforced):
    rows = pq.read_table(reinforced / "rollouts.parquet").to_pylist()
    assert len(rows) == 2 * 2 * GROUP
    assert [row["policy_step"] for row in rows] == [0] * 8 + [1] * 8
    assert len({row["rollout_id"] for row in rows}) == len(rows)
    groups: dict[str, set[str]] = {}
    for row in rows:
        groups.setdefault(row["group_id"], set()).add(row["prompt_id"])
    assert len(groups) == 4 and all(len(prompts) == 1 for prompts in groups.values())
    assert {row["row_id"] for row in rows} == {f"q{row['prompt_id'][1:]}" for row in rows}
    assert not (reinforced / "trainer-rl").exists()


def test_rewards_are_those_of_the_text_that_was_kept(reinforced):
    stated = parse_constraints(CONSTRAINTS)
    for row in pq.read_table(reinforced / "rollouts.parquet").to_pylist():
        verified = verify(stated, row["completion"]).share
        length = float(len(row["completion"]))
        assert row["rewards"] == [
            {"name": "verifier", "weight": 0.75, "reward": verified},
            {"name": "brevity:short", "weight": 0.25, "reward": length},
        ]
        assert row["reward"] == pytest.approx(0.75 * verified + 0.25 * length)
        assert 1 <= row["tokens"] <= 8 and (row["truncated"] or row["tokens"] < 8)


def test_an_advantage_is_the_reward_less_the_groups_mean_by_its_deviation(reinforced):
    rows = pq.read_table(reinforced / "rollouts.parquet").to_pylist()
    for start in range(0, len(rows), GROUP):
        group = rows[start : start + GROUP]
        rewards = [row["reward"] for row in group]
        mean = sum(rewards) / GROUP
        # TRL's standard deviation is the sample's
        deviation = (sum((reward - mean) ** 2 for reward in rewards) / (GROUP - 1)) ** 0.5
        wanted = [(reward - mean) / (deviation + 1e-4) for reward in rewards]
        assert [row["advantage"] for row in group] == pytest.approx(wanted, abs=1e-3)
    assert any(row["advantage"] for row in rows)


def test_metrics_name_the_rewards_of_the_profile(reinforced):
    steps = [entry for entry in read_metrics(reinforced) if "reward" in entry]
    assert len(steps) == 2
    named = {name for entry in steps for name in entry if name.startswith("rewards/")}
    assert named == {
        *("rewards/verifier/mean", "rewards/verifier/std"),
        *("rewards/brevity:short/mean", "rewards/brevity:short/std"),
    }


def test_a_weighted_sum_is_of_the_rewards_that_apply():
    weights = {"verifier": 0.7, "reward_model": 0.3}
    assert weighted({"verifier": 1.0, "reward_model": -2.0}, weights) == pytest.approx(0.1)
    assert weighted({"verifier": None, "reward_model": -2.0}, weights) == pytest.approx(-0.6)
    assert weighted({"verifier": None, "reward_model": None}, weights) is None


def test_a_reward_that_does_not_apply_is_null_and_not_zero():
    nan = float("nan")
    logs = {
        "completion": [[{"role": "assistant", "content": text}] for text in ("a", "b")],
        "rewards": {"verifier": [nan, 0.5]},
        "advantages": [0.0, 0.0],
        "extra": {
            "row_id": ["r", "r"],
            "prompt_id": ["p", "p"],
            "tokens": [1, 2],
            "truncated": [False, True],
        },
    }
    one, two = rollout_rows(logs, {"verifier": 1.0}, 2, "00000004-000000")
    assert one["reward"] is None and one["rewards"][0]["reward"] is None
    assert (two["reward"], two["policy_step"], two["truncated"]) == (0.5, 4, True)
