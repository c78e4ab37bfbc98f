"""Dagster's objects are those of one arena that is given, and assets say what they made."""

from __future__ import annotations

import os
import subprocess
import sys

import dagster as dg
import pytest
import yaml
from test_assets import FIRST, judgment
from test_checks import key_of

from arena_assets.assets.metadata import publish
from arena_assets.config.places import PROJECT
from arena_assets.definitions import definitions, defs
from arena_assets.flywheel.arena import Arena
from arena_assets.lake.code import code_version
from arena_assets.lake.tables import TABLES


@pytest.fixture
def mine(tmp_path, tiny_profile) -> Arena:
    """Another arena than the one that the code location was loaded with."""
    profile = yaml.safe_load(tiny_profile.read_text("utf-8")) | {"name": "mine"}
    profile["prompts"]["sources"][0]["name"] = "letters"
    profile["rounds"] = {"i07.1-sft": {"slice": "D1", "minimum_gap": 3.0}}
    (tmp_path / "board.csv").write_text("model,rating\nB,1\n", "utf-8")
    profile["ratings"]["reference"] = {"path": str(tmp_path / "board.csv")}
    profile["executor"] = "multiprocess"
    profile["quality"]["minimum_training_rows"] = 77
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    return Arena(str(tmp_path / "mine.yaml"), str(tmp_path / "lake"))


def partitions(definitions, asset):
    found = definitions.resolve_asset_graph().get(dg.AssetKey(asset)).partitions_def
    return found.get_partition_keys()


def test_definitions_are_those_of_the_arena_that_they_are_built_from(mine):
    built = definitions(mine)
    assert partitions(built, "prompts") == ["letters"]
    for table in ("responses", "training_set", "ratings", "consistency"):
        assert partitions(built, table) == ["i07.1-sft"], table
    graph = built.resolve_asset_graph()
    check = graph.get(key_of("training_set", "has_rows"))
    assert "min_value 77" in check.description
    assert check.partitions_def.get_partition_keys() == ["i07.1-sft"]
    dbt_test = key_of("training_set", "not_null_training_set_source_round")
    assert graph.get(dbt_test).partitions_def.get_partition_keys() == ["i07.1-sft"]
    job = built.resolve_job_def("turn_round")
    assert job.partitions_def.get_partition_keys() == ["i07.1-sft"]
    assert job.executor_def.name == "multiprocess"
    arena = built.resources["arena"]
    with dg.build_resources({"arena": arena}) as opened:
        assert opened.arena.profile.name == "mine" and opened.arena.lake.root == mine.lake.root
    assert partitions(defs, "prompts") == ["seed"], "the one of the code location is as it was"
    assert not defs.resolve_asset_graph().has(dg.AssetKey("consistency"))


def test_pages_of_a_run_lie_below_its_own_arena(mine, tmp_path, monkeypatch):
    monkeypatch.setenv("ARENA_DATA_DOCS", str(tmp_path / "quality"))
    mine.lake.write("judgments", [judgment(1), judgment(2)], "i07.1-sft")
    built = definitions(mine)
    checks = {key for one in built.asset_checks for key in one.check_keys}
    checks = {key for key in checks if key.asset_key == dg.AssetKey("judgments")}
    job = built.resolve_implicit_global_asset_job_def()
    only = job.get_subset(asset_selection=set(), asset_check_selection=checks)
    with dg.DagsterInstance.ephemeral() as instance:
        only.execute_in_process(tags={"dagster/partition": "i07.1-sft"}, instance=instance)
    assert [folder.name for folder in (tmp_path / "quality").iterdir()] == ["mine"]
    assert (tmp_path / "quality/mine/judgments/i07.1-sft.html").exists()


def test_importing_assets_and_checks_reads_no_profile():
    """Only `arena_assets.definitions` opens an arena when it is imported."""
    code = """
from arena_assets.assets import (
    audit, automation, battles, consistency, curation, dbt, prompts, ratings, resource, training
)
from arena_assets.checks import expectations
print("imported")
import arena_assets.definitions
"""
    environment = os.environ | {"ARENA_PROFILE": "/nowhere/profile.yaml"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "imported", done.stderr
    assert "/nowhere/profile.yaml" in done.stderr.splitlines()[-1]


def test_every_asset_says_the_version_of_the_code_that_decides_its_values():
    graph = defs.resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        assert graph.get(key).code_version == code_version(key.to_user_string()), key


# -- publishing --------------------------------------------------------------------------------


def test_a_published_table_says_where_it_lies_what_its_columns_hold_and_what_is_in_it(mine):
    mine.lake.write("judgments", [judgment(1), judgment(2)], FIRST)
    said = publish(mine, "judgments", FIRST, judged=2)
    assert said.asset_key == dg.AssetKey("judgments")
    assert said.data_version.value == mine.lake.digest("judgments", FIRST)
    metadata = said.metadata
    assert metadata["dagster/row_count"] == 2 and metadata["judged"] == 2
    assert metadata["dagster/table_name"] == "judgments"
    assert metadata["dagster/uri"] == mine.lake.path("judgments", FIRST).as_uri()
    columns = {column.name: column for column in metadata["dagster/column_schema"].columns}
    assert [*columns] == TABLES["judgments"].schema.names
    assert columns["game"].type == "int64"
    assert columns["game"].description == "1: contestants in alphabetical order; 2: swapped"
    assert columns["round"].description is None, "its name says it"
    nullable = {name for name, column in columns.items() if column.constraints.nullable}
    assert nullable == {f.name for f in TABLES["judgments"].schema if f.nullable}


def test_the_same_rows_have_the_same_data_version_and_others_another(mine):
    def version(rows):
        mine.lake.write("judgments", rows, FIRST)
        return publish(mine, "judgments", FIRST).data_version

    once = version([judgment(1), judgment(2)])
    assert version([judgment(1), judgment(2)]) == once
    assert version([judgment(1), judgment(2, score_a=9.0)]) != once


def test_what_a_run_reports_is_what_dagster_shows(mine):
    rows = [{"round": FIRST, "contestant": "base", "rating": 1.0, "lower": 0.0, "upper": 2.0}]
    rows[0] |= {"rank": 1, "battles": 1, "wins": 1, "losses": 0, "ties": 0, "purpose": "all"}
    base = mine.lake.root / "base"
    base.mkdir(parents=True)
    origin = mine.profile.models["tiny"].path
    row = {"name": "tiny", "origin": origin, "path": str(base), "digest": "base-digest"}
    mine.lake.write("models", [row])
    mine.lake.write("ratings", rows, "i07.1-sft")
    (promotions,) = [a for a in definitions(mine).assets if a.op.name == "promotions"]
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize(
            [promotions],
            partition_key="i07.1-sft",
            resources={"arena": mine},
            instance=instance,
            selection=[promotions],
        )
        event = instance.get_latest_materialization_event(promotions.key).asset_materialization
    assert event.metadata["dagster/row_count"].value == 1
    assert event.tags["dagster/data_version"] == mine.lake.digest("promotions", "i07.1-sft")
