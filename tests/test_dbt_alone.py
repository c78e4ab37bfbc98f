"""dbt is told its lake and round, makes nothing without, and changes nothing of its process."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml
from conftest import asset_named
from test_dbt import fight

from arena_assets.assets import dbt_build
from arena_assets.assets.dbt_project import run_dbt
from arena_assets.config.places import PROJECT
from arena_assets.flywheel.arena import Arena
from arena_assets.lake.lake import Lake

ROUND = "i01.1-sft"
TOLD = {"lake": "/nowhere", "round": ROUND, "stage": "sft", "minimum_gap": 0.0, "quorum": 0.5}
TOLD |= {"trains_on": [ROUND], "rounds_so_far": [ROUND], "flips": "mean", "selection": "all"}


def said_by(arguments: list[str], folder: Path) -> str:
    """What dbt says of a command that fails."""
    result, said = run_dbt(arguments, folder, dbt_build._models().deepcopy())
    assert not result.success
    assert not [m for m in said if m["info"]["name"] in ("LogStartLine", "LogTestResult")]
    return "\n".join([str(result.exception), *(m["info"]["msg"] for m in said)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["build"],
        ["run"],
        ["test"],
        ["run", "--select", "battles"],
        ["build", "--select", "leaderboard+"],
        ["test", "--select", "test_type:data"],
    ],
    ids=" ".join,
)
def test_what_makes_or_tests_tables_is_refused_in_a_sentence_without_a_lake(arguments, tmp_path):
    said = said_by(arguments, tmp_path)
    assert "the tables of one round of one lake and were not told which (no lake, round," in said
    assert "materialize them in Dagster or with `arena run`" in said


@pytest.mark.parametrize("missing", TOLD)
def test_nothing_has_a_default_so_half_a_word_is_refused_too(missing, tmp_path):
    told = {name: value for name, value in TOLD.items() if name != missing}
    assert f"(no {missing} in --vars)" in said_by(["run", "--vars", json.dumps(told)], tmp_path)


def test_a_plain_dbt_build_leaves_the_lake_that_the_environment_names(tmp_path):
    lake = Lake(tmp_path / "lake")
    fight(lake, ROUND, random.Random(1))
    files = {path: path.stat().st_mtime_ns for path in lake.root.rglob("*")}
    command = [str(Path(sys.executable).with_name("dbt")), "build", "--project-dir", "dbt_project"]
    command += ["--profiles-dir", "dbt_project", "--target-path", str(tmp_path / "target")]
    command += ["--log-path", str(tmp_path / "logs")]
    environment = os.environ | {"ARENA_LAKE": str(lake.root)}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stdout.count("were not told which (no lake, round,") == 1, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in lake.root.rglob("*")} == files


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["parse"], ["docs", "generate"], ["test", "--select", "test_type:unit"]],
    ids=" ".join,
)
def test_what_makes_no_table_needs_no_lake(arguments, tmp_path):
    result, said = run_dbt(arguments, tmp_path)
    assert result.success, [m["info"]["msg"] for m in said]
    tested = {m["data"]["status"] for m in said if m["info"]["name"] == "LogTestResult"}
    assert tested <= {"pass"}


# -- the asset ---------------------------------------------------------------------------------


@pytest.fixture
def arena_with_k(tmp_path, tiny_profile):
    """Makes an arena with this K and a fought first round on a lake of its own."""

    def made(minimum_gap: float) -> Arena:
        profile = yaml.safe_load(tiny_profile.read_text("utf-8"))
        profile["rounds"][ROUND]["minimum_gap"] = minimum_gap
        file = tmp_path / f"k{minimum_gap}.yaml"
        file.write_text(yaml.safe_dump(profile), "utf-8")
        arena = Arena(str(file), str(tmp_path / f"lake-{minimum_gap}"))
        fight(arena.lake, ROUND, random.Random(1), prompts=30)
        prompt = {"source": "s", "messages": [], "constraints": "[]", "category": "c"}
        ids = sorted({row["prompt_id"] for row in arena.lake.read("responses", ROUND).to_pylist()})
        arena.lake.write("prompts_curated", [{"prompt_id": name, **prompt} for name in ids])
        return arena

    return made


def materialized(arena: Arena, *tables: str) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [asset_named("arena_dbt")],
            selection=list(tables),
            partition_key=ROUND,
            resources={"arena": arena},
            instance=instance,
            raise_on_error=False,
        )


def test_two_arenas_in_one_process_keep_their_lakes_and_settings(arena_with_k, monkeypatch):
    parsed = dbt_build._models()
    monkeypatch.setattr(dbt_build, "parse", None)  # it is parsed, and is not parsed again
    before, folder = dict(os.environ), Path.cwd()
    for gap in (1.0, 4.0):
        arena = arena_with_k(gap)
        assert materialized(arena, "battles", "sft_rows").success
        gaps = [row["gap"] for row in arena.lake.read("sft_rows", ROUND).to_pylist()]
        assert gap <= min(gaps) < 4.0 + gap
        assert arena.made_from("sft_rows", ROUND)
    assert dict(os.environ) == before and Path.cwd() == folder
    assert dbt_build._models() is parsed


def test_only_what_is_selected_is_made_and_tested(arena_with_k):
    arena = arena_with_k(3.0)
    result = materialized(arena, "battles")
    tested = {e.check_name for e in result.get_asset_check_evaluations() if e.passed}
    assert len(tested) == 6 and "unique_battles_battle_id" in tested
    assert not arena.lake.exists("sft_rows", ROUND)
    (made,) = result.get_asset_materialization_events()
    assert made.asset_key == dg.AssetKey("battles")
    assert made.materialization.metadata["dagster/row_count"].value == 90


def test_a_test_that_fails_is_a_failed_check_and_ends_the_run_with_what_dbt_says(arena_with_k):
    arena = arena_with_k(3.0)
    rows = arena.lake.read("judgments", ROUND).to_pylist()
    arena.lake.write("judgments", [row | {"role": "guest"} for row in rows], ROUND)
    result = materialized(arena, "battles", "sft_rows")
    assert not result.success
    failed = [e.check_name for e in result.get_asset_check_evaluations() if not e.passed]
    assert len(failed) == 1 and failed[0].startswith("accepted_values_battles_role")
    failure = result.failure_data_for_node("arena_dbt").user_failure_data
    assert "accepted_values_battles_role" in failure.description
    assert not arena.lake.exists("sft_rows", ROUND)


def test_a_model_that_cannot_be_made_says_why(arena_with_k):
    arena = arena_with_k(3.0)
    arena.lake.path("judgments", ROUND).unlink()
    failure = materialized(arena, "battles").failure_data_for_node("arena_dbt").user_failure_data
    assert "Table with name judgments does not exist" in failure.description
