"""What RL drew is a table of the lake, and the reward model's accuracy a check, seen in the UI."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import asset_named
from test_checkpoints import manifest, trained

from arena_assets.assets.partitions import rounds_of
from arena_assets.assets.resource import resource_of
from arena_assets.checks.expectations import failed_expectations
from arena_assets.checks.reward_models import reward_model_check
from arena_assets.flywheel.arena import Arena
from arena_assets.lake.tables import MESSAGES
from arena_assets.training.checkpoints import ROLLOUTS, verified_digest
from arena_assets.training.measuring import Measured, write_measured
from arena_assets.training.rollouts import SCHEMA

SFT, RL = "i01.1-sft", "i01.3-rl"
HOSTILE = "<img src=x onerror=alert(1)> ![a](http://b)"


@pytest.fixture
def arena(tmp_path, tiny_profile) -> Arena:
    return Arena(str(tiny_profile), str(tmp_path / "lake"))


def rollout(number: int, step: int, verified: float | None, completion: str) -> dict:
    parts = [
        {"name": "verifier", "weight": 0.5, "reward": verified},
        {"name": "reward_model", "weight": 0.5, "reward": 2.0},
    ]
    total = 1.0 if verified is None else 0.5 * verified + 1.0
    known = {"rollout_id": f"{step}-{number}", "group_id": f"{step}-0", "row_id": "r"}
    known |= {"prompt_id": "p", "policy_step": step, "completion": completion, "reward": total}
    return known | {"rewards": parts, "advantage": 0.1, "tokens": 3, "truncated": False}


def checkpoint(arena: Arena, key: str, rows: list[dict], measured: Measured | None = None) -> Path:
    scratch = trained(arena.checkpoints, key, b"weights")
    before = verified_digest(scratch, scratch / ".verified.json")
    if rows:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), scratch / ROLLOUTS)
    if measured:
        write_measured(scratch, measured)
    assert verified_digest(scratch, scratch / ".verified.json") == before, "these are no weights"
    arena.checkpoints.commit(scratch, manifest(scratch, key, digest=before, stage=key[-2:]))
    return arena.checkpoints.path(key)


def training_set(arena: Arena, key: str) -> None:
    path = arena.lake.path("training_set", key)
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([("row_id", pa.string()), ("messages", MESSAGES)])
    asked = [{"role": "user", "content": f"Say {HOSTILE}"}]
    pq.write_table(pa.Table.from_pylist([{"row_id": "r", "messages": asked}], schema=schema), path)


def shown(arena: Arena, key: str) -> dict[str, dg.MetadataValue]:
    result = dg.materialize(
        [asset_named("rollouts")],
        partition_key=key,
        selection=["rollouts"],
        resources={"arena": resource_of(arena)},
    )
    (event,) = result.asset_materializations_for_node("rollouts")
    return dict(event.metadata)


def test_rollouts_are_a_table_with_the_best_and_the_worst_of_them_shown(arena):
    rows = [rollout(n, n // 4, n / 8, f"answer {n}") for n in range(8)]
    rows[7]["completion"] = HOSTILE
    rows.append(rollout(8, 1, None, "nothing to verify"))
    checkpoint(arena, RL, rows)
    training_set(arena, RL)
    said = shown(arena, RL)
    table = arena.lake.read("rollouts", RL).to_pylist()
    assert [row["rollout_id"] for row in table] == [row["rollout_id"] for row in rows]
    assert {row["round"] for row in table} == {RL}
    assert table[3]["rewards"][0] == {"name": "verifier", "weight": 0.5, "reward": 0.375}
    best, worst = said["best"].value.splitlines()[2:], said["worst"].value.splitlines()[2:]
    assert len(best) == 8 and "1.44" in best[0] and "verifier 0.88" in best[0]
    assert "answer 0" in worst[0] and "verifier -, reward" in worst[1]
    assert "<img" not in said["best"].value and "![a]" not in said["best"].value
    assert said["rewards_by_part"].value.startswith("![plot](data:image/png")
    assert failed_expectations(arena, "rollouts", RL) == []


def test_a_round_without_rl_has_an_empty_table_that_says_why(arena):
    checkpoint(arena, SFT, [])
    said = shown(arena, SFT)
    assert said["dagster/row_count"].value == 0
    assert said["note"].value == "no rollouts in this round: sft draws none: only RL does"
    assert arena.lake.read("rollouts", SFT).num_rows == 0
    assert failed_expectations(arena, "rollouts", SFT) == []


def evaluated(arena: Arena) -> dg.AssetCheckEvaluation:
    check = reward_model_check(rounds_of(arena.profile))

    @dg.asset(name="checkpoint", partitions_def=rounds_of(arena.profile))
    def made() -> None: ...

    defs = dg.Definitions([made], asset_checks=[check], resources={"arena": resource_of(arena)})
    job = defs.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(partition_key=RL, raise_on_error=False)
    (found,) = result.get_asset_check_evaluations()
    return found


def floor(arena: Arena, least: float) -> None:
    """The arena's own profile with a floor, as its resource reads it."""
    text = arena.profile_path.read_text("utf-8")
    path = arena.lake.root.parent / "floor.yaml"
    path.write_text(
        f"{text}\n".replace("quality:\n", f"quality:\n  reward_model_accuracy: {least}\n")
    )
    arena.__init__(str(path), str(arena.lake.root))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("right", "wrong", "least", "passed", "severity", "told"),
    [
        (30, 10, None, True, "WARN", "right on 30 of 40 held-out pairs (0.75"),
        (30, 10, 0.7, True, "WARN", "right on 30 of 40 held-out pairs"),
        (20, 20, 0.7, False, "ERROR", "asks for 0.7: RL was not started"),
        (4, 0, None, False, "WARN", "too few to tell"),
        (4, 0, 0.7, False, "ERROR", "fewer than 20 pairs cannot tell"),
    ],
)
def test_the_check_of_a_reward_model_says_what_was_measured(
    arena, right, wrong, least, passed, severity, told
):
    checkpoint(arena, RL, [], Measured(90, (0.5,) * right + (-0.5,) * wrong, 0.1))
    if least:
        floor(arena, least)
    found = evaluated(arena)
    assert (found.passed, found.severity.value, found.partition) == (passed, severity, RL)
    assert told in (found.description or "")
    assert found.metadata["reward_model"].value["held_out"] == right + wrong
    assert found.metadata["margins"].value.startswith("![plot](data:image/png")


def test_a_round_without_a_reward_model_has_nothing_to_check(arena):
    checkpoint(arena, RL, [])
    found = evaluated(arena)
    assert found.passed and found.description == "no reward model was fitted in this round"
