"""Every check runs alone, with a round and without one; pages of results say whose they are."""

from __future__ import annotations

import re
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from test_assets import FIRST, SECOND, answer, judgment

from arena_assets.checks.expectations import failed_expectations, validate
from arena_assets.checks.suites import suites
from arena_assets.definitions import defs
from arena_assets.flywheel.arena import Arena, open_arena
from arena_assets.lake.tables import TABLES

PARTITIONS = {
    suite.table: {"round": FIRST, "source": "seed", "none": "all"}[suite.partitions]
    for suite in suites(open_arena().profile).values()
} | {"checkpoint": FIRST}  # of which the reward model is looked at
EXPECTATIONS = {key for checks in defs.asset_checks for key in checks.check_keys}
TRAINING_SET = pa.schema(
    [(name, pa.string()) for name in ("row_id", "kind", "prompt_id", "chosen", "rejected")]
    + [("source_round", pa.string()), ("messages", pa.list_(pa.string()))]
    + [(f"{side}_turns", pa.list_(pa.string())) for side in ("chosen", "rejected")]
)
JOB = defs.resolve_implicit_global_asset_job_def()


@pytest.fixture(scope="module")
def arena(tmp_path_factory, tiny_profile) -> Arena:
    """An arena whose lake has every table that a suite looks at, with few rows or none."""
    root = tmp_path_factory.mktemp("checks")
    arena = Arena(str(tiny_profile), str(root / "lake"))
    for table, partition in PARTITIONS.items():
        if table in TABLES:
            arena.lake.write(table, [], partition)
    arena.lake.write("judgments", [judgment(1), judgment(2)], FIRST)
    arena.lake.write("responses", [answer("p", "ann", "Some words.")], FIRST)
    rows = [{"row_id": "1", "kind": "sft", "prompt_id": "p", "chosen": "yes", "source_round": "r"}]
    place = arena.lake.path("training_set", FIRST)
    place.parent.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, TRAINING_SET), place)
    return arena


@pytest.fixture(scope="module")
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def executed(arena, instance, key: dg.AssetCheckKey, partition: str | None):
    """One check as the UI executes it: the implicit job, this check alone, the partition as a tag.

    What it said, or the sentence that it failed with.
    """
    alone = JOB.get_subset(asset_selection=set(), asset_check_selection={key})
    result = alone.execute_in_process(
        tags={"dagster/partition": partition} if partition else {},
        instance=instance,
        resources={"arena": arena},
        raise_on_error=False,
    )
    said = result.get_asset_check_evaluations()
    if not said:
        (failed,) = [event for event in result.all_events if event.is_step_failure]
        return failed.step_failure_data.user_failure_data.description
    (evaluation,) = said
    assert evaluation.asset_check_key == key
    return evaluation


def test_every_expectation_runs_alone_on_its_partition(arena, instance):
    assert len(EXPECTATIONS) > 100
    assert {key.asset_key.path[-1] for key in EXPECTATIONS} == set(PARTITIONS)
    for key in sorted(EXPECTATIONS):
        partition = PARTITIONS[key.asset_key.path[-1]]
        found = executed(arena, instance, key, None if partition == "all" else partition)
        assert found.partition == (None if partition == "all" else partition), key
        assert found.metadata["partition"].value == partition


def test_no_check_has_to_wait_for_a_materialization():
    graph = defs.resolve_asset_graph()
    bound = {
        key
        for key in graph.asset_check_keys
        if len(graph.get_execution_set_asset_and_check_keys(key)) > 1
    }
    assert bound == set(), "the UI would say REQUIRES_MATERIALIZATION"


def key_of(table, name):
    return dg.AssetCheckKey(dg.AssetKey(table), name)


def test_a_check_without_a_round_looks_at_the_one_written_last(arena, instance):
    later = [judgment(game, round=SECOND, status="lost") for game in (1, 2)]
    arena.lake.write("judgments", later, SECOND)
    found = executed(arena, instance, key_of("judgments", "known_status"), None)
    assert found.metadata["partition"].value == SECOND and not found.passed
    arena.lake.write("judgments", [judgment(1), judgment(2)], FIRST)
    found = executed(arena, instance, key_of("judgments", "known_status"), None)
    assert found.metadata["partition"].value == FIRST and found.passed


def test_a_check_of_what_is_not_there_refuses_in_a_sentence(
    arena, instance, tiny_profile, tmp_path
):
    said = executed(arena, instance, key_of("ratings", "has_rows"), SECOND)
    assert said.endswith(
        "i01.2-dpo.parquet: not there; materialize partition i01.2-dpo of the asset ratings first "
        "(there: i01.1-sft)"
    )
    empty = Arena(str(tiny_profile), str(tmp_path))
    said = executed(empty, instance, key_of("ratings", "has_rows"), None)
    assert said == "ratings has no partition yet that could be checked: materialize one first"


def test_a_test_of_dbt_runs_alone_without_a_round(arena, instance):
    key = key_of("training_set", "not_null_training_set_source_round")
    assert executed(arena, instance, key, None).passed
    said = executed(arena, instance, key, SECOND)
    assert "materialize partition i01.2-dpo of the asset training_set first" in said


def test_one_check_is_one_expectation_and_leaves_the_page_alone(arena, quality):
    suite = suites(arena.profile)["judgments"]
    whole = validate(arena, suite, FIRST, run="run-of-all")
    assert len(whole.results) == len(suite.expectations)
    page = (quality / "tiny/judgments/i01.1-sft.html").read_text("utf-8")
    (only,) = validate(arena, suite, FIRST, names={"has_rows"}).results
    assert only.expectation_config.meta["name"] == "has_rows"
    assert (quality / "tiny/judgments/i01.1-sft.html").read_text("utf-8") == page
    shown = re.sub(r"<[^>]+>|\s+", " ", page)
    assert "__none__" not in page
    for row in ("Run Name i01.1-sft", "data_asset_name judgments", "run run-of-all", "arena tiny"):
        assert row in re.sub(r"\s+", " ", shown), row


@pytest.fixture
def quality(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ARENA_DATA_DOCS", str(tmp_path / "quality"))
    return tmp_path / "quality"


@pytest.mark.parametrize(
    ("first", "failing"), [("A fox", []), ("A hare", ["chosen_is_not_rejected"])]
)
def test_two_dialogues_that_end_alike_differ_where_another_turn_does(
    arena, tiny_profile, tmp_path, first, failing
):
    other = Arena(str(tiny_profile), str(tmp_path))
    other.lake.write("arena_testset", [])
    row = {"kind": "preference", "prompt_id": "p", "chosen": "Yes", "rejected": "Yes"}
    row |= {"chosen_turns": [first, "Yes"], "rejected_turns": ["A hare", "Yes"]}
    rows = [{"row_id": str(n), **row} for n in range(4)]
    place = other.lake.path("training_set", FIRST)
    place.parent.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, TRAINING_SET), place)
    assert failed_expectations(other, "training_set", FIRST) == failing


def test_pages_lie_below_the_name_of_the_arena_that_was_checked(arena, quality, tmp_path):
    profile = yaml.safe_load(arena.profile_path.read_text("utf-8")) | {"name": "mine"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    mine = Arena(str(tmp_path / "mine.yaml"), arena.lake.root)
    failed_expectations(mine, "judgments", FIRST)
    assert [folder.name for folder in quality.iterdir()] == ["mine"]
    assert "Data quality of mine" in (quality / "mine/index.html").read_text("utf-8")


def test_pages_load_nothing_and_run_nothing(arena, quality):
    tables = ("judgments", "responses", "slices", "training_set")
    for table in tables:
        failed_expectations(arena, table, PARTITIONS[table])
    links = {"index.html": [f"{table}/{PARTITIONS[table]}.html" for table in tables]}
    pages = sorted(quality.rglob("*.html"))
    assert len(pages) == len(tables) + 1
    for page in pages:
        html = page.read_text("utf-8")
        assert "<style>" in html and "<script" not in html and "<link" not in html, page
        loaded = re.findall(r"(?:src|href)\s*=\s*[\"']?([^\"'\s>]+)", html)
        outside = [url for url in loaded if not url.startswith("#")]
        assert outside == links.get(page.name, ["../index.html"])
        assert not re.search(r"https?:|url\(|@import", html), page


@pytest.mark.drill
def test_every_test_of_dbt_runs_alone(turned, instance):
    graph = defs.resolve_asset_graph()
    arena = defs.resources["arena"]
    for key in sorted(set(graph.asset_check_keys) - EXPECTATIONS):
        assert executed(arena, instance, key, FIRST).passed, key
