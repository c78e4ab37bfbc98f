"""What a validation found is noted for its very rows and rules, and asked for before training."""

from __future__ import annotations

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import asset_named
from test_assets import FIRST, arena, judgment  # noqa: F401
from test_checks import TRAINING_SET
from test_dbt_alone import arena_with_k, materialized  # noqa: F401

from arena_assets.checks import expectations
from arena_assets.checks.expectations import failed_expectations, known_failures, validate
from arena_assets.checks.results import failed_tests, record_tests
from arena_assets.checks.suites import suites
from arena_assets.flywheel.arena import Arena

TESTED = {"part": "hard", "cluster": 0, "category": "x", "difficulty": None}
TESTED |= {"family": "f", "purpose": "all"}


def train_on(arena, count):  # noqa: F811
    """A training set of so many good rows."""
    rows = [
        {"row_id": str(n), "kind": "sft", "prompt_id": f"p{n}", "chosen": "yes"}
        for n in range(count)
    ]
    place = arena.lake.path("training_set", FIRST)
    place.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, TRAINING_SET), place)


@pytest.fixture
def looks(monkeypatch):
    """The validations since."""
    seen = []

    def counted(arena, suite, partition, *rest, **more):  # noqa: F811
        seen.append((suite.table, partition))
        return validate(arena, suite, partition, *rest, **more)

    monkeypatch.setattr(expectations, "validate", counted)
    return seen


@pytest.fixture
def ready(arena, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("ARENA_DATA_DOCS", str(tmp_path / "quality"))
    arena.lake.write("arena_testset", [{"prompt_id": "t", **TESTED}])
    train_on(arena, 4)
    return arena


def with_limit(arena, limit):  # noqa: F811
    profile = yaml.safe_load(arena.profile_path.read_text("utf-8"))
    profile["quality"]["minimum_training_rows"] = limit
    file = arena.lake.root.parent / f"limit-{limit}.yaml"
    file.write_text(yaml.safe_dump(profile), "utf-8")
    return Arena(str(file), arena.lake.root)


def test_rows_that_were_looked_at_are_not_looked_at_again(ready, looks):
    assert known_failures(ready, "training_set", FIRST) == []
    assert known_failures(ready, "training_set", FIRST) == []
    assert known_failures(Arena(ready.profile_path, ready.lake.root), "training_set", FIRST) == []
    assert looks == [("training_set", FIRST)]


def test_other_rows_another_limit_and_another_test_set_are_looked_at_anew(ready, looks):
    failed_expectations(ready, "training_set", FIRST)
    train_on(ready, 3)
    assert known_failures(ready, "training_set", FIRST) == ["has_rows"]
    assert known_failures(ready, "training_set", FIRST) == ["has_rows"] and len(looks) == 2
    assert known_failures(with_limit(ready, 3), "training_set", FIRST) == [] and len(looks) == 3
    assert known_failures(ready, "training_set", FIRST) == ["has_rows"] and len(looks) == 4
    train_on(ready, 4)
    assert known_failures(ready, "training_set", FIRST) == [] and len(looks) == 5
    ready.lake.write("arena_testset", [{"prompt_id": "p2", **TESTED}])
    assert known_failures(ready, "training_set", FIRST) == ["no_test_prompts"] and len(looks) == 6


def test_a_look_at_some_expectations_says_nothing_of_all(ready, looks):
    validate(ready, suites(ready.profile)["training_set"], FIRST, names={"texts_present"})
    known_failures(ready, "training_set", FIRST)
    assert looks == [("training_set", FIRST)]


def test_rows_that_were_replaced_during_a_look_are_not_noted(ready, looks, monkeypatch):
    frame = expectations._frame

    def replaced(*given):
        train_on(ready, 2)
        return frame(*given)

    monkeypatch.setattr(expectations, "_frame", replaced)
    assert failed_expectations(ready, "training_set", FIRST) == ["has_rows"]
    monkeypatch.setattr(expectations, "_frame", frame)
    train_on(ready, 4)
    assert known_failures(ready, "training_set", FIRST) == [] and len(looks) == 2


def failure_of_checkpoint(arena):  # noqa: F811
    """What the asset `checkpoint` fails with when a run starts there."""
    checkpoint = asset_named("checkpoint")
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [checkpoint],
            partition_key=FIRST,
            resources={"arena": Arena(arena.profile_path, arena.lake.root)},
            instance=instance,
            selection=[checkpoint],
            raise_on_error=False,
        )
    return result.failure_data_for_node("checkpoint").user_failure_data.description


def test_a_run_that_starts_at_the_checkpoint_refuses_what_the_checks_found(ready, looks):
    record_tests(ready.lake, "training_set", FIRST, {})
    strict = with_limit(ready, 9)
    failed_expectations(strict, "training_set", FIRST)
    said = failure_of_checkpoint(strict)
    assert said.startswith(f"training_set {FIRST} fails its blocking checks: has_rows. Nothing was")
    assert len(looks) == 1, "Great Expectations was not run again"


def test_a_limit_that_was_raised_since_is_held_by_the_checkpoint_too(ready, looks):
    record_tests(ready.lake, "training_set", FIRST, {})
    assert failed_expectations(ready, "training_set", FIRST) == []
    assert "fails its blocking checks: has_rows" in failure_of_checkpoint(with_limit(ready, 9))
    assert len(looks) == 2


def test_tests_of_dbt_that_these_rows_failed_count_until_they_pass(ready):
    assert known_failures(ready, "training_set", FIRST) == []
    record_tests(ready.lake, "training_set", FIRST, {"unique_row_id": False, "not_null": True})
    record_tests(ready.lake, "training_set", FIRST, {"known_kinds": False})  # executed alone
    assert failed_tests(ready.lake, "training_set", FIRST) == ["known_kinds", "unique_row_id"]
    said = failure_of_checkpoint(with_limit(ready, 9))
    assert "fails its blocking checks: has_rows; known_kinds; unique_row_id. Nothing" in said
    record_tests(ready.lake, "training_set", FIRST, {"known_kinds": True})
    assert failed_tests(ready.lake, "training_set", FIRST) == ["unique_row_id"]
    train_on(ready, 10)
    assert failed_tests(ready.lake, "training_set", FIRST) is None, "they were of other rows"
    assert "was not tested by dbt as it is now" in failure_of_checkpoint(with_limit(ready, 9))


def test_what_dbt_tests_in_a_run_is_noted_also_where_it_ends_the_run(arena_with_k):  # noqa: F811
    fought = arena_with_k(3.0)
    assert (
        materialized(fought, "battles").success
        and failed_tests(fought.lake, "battles", FIRST) == []
    )
    rows = fought.lake.read("judgments", FIRST).to_pylist()
    fought.lake.write("judgments", [row | {"role": "guest"} for row in rows], FIRST)
    assert not materialized(fought, "battles").success
    (failed,) = failed_tests(fought.lake, "battles", FIRST)
    assert failed.startswith("accepted_values_battles_role")


def test_every_table_can_be_asked_about(ready, looks):
    ready.lake.write("judgments", [judgment(1), judgment(2, status="lost")], FIRST)
    for _ in range(2):
        found = known_failures(ready, "judgments", FIRST)
        assert found == ["known_status", "scores_where_ok"]
    assert looks == [("judgments", FIRST)]
