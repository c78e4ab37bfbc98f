"""Each rule on a table has one owner: dbt tests what dbt makes, Great Expectations the rest."""

from __future__ import annotations

import pytest
import yaml

from arena_assets.checks.suites import suites
from arena_assets.config.places import PROJECT
from arena_assets.config.profile import load_profile
from arena_assets.lake.tables import TABLES

SUITES = suites(load_profile())
KINDS = {  # a test of dbt -> the type of Great Expectations that would say the same
    "unique": "expect_column_values_to_be_unique",
    "not_null": "expect_column_values_to_not_be_null",
    "accepted_values": "expect_column_values_to_be_in_set",
}


def tested_by_dbt() -> set[tuple[str, str, str]]:
    """(table, type, column) of every test beside a model's columns."""
    found = set()
    for file in (PROJECT / "dbt_project/models").rglob("*.yml"):
        for model in yaml.safe_load(file.read_text("utf-8")).get("models", []):
            for column in model["columns"]:
                for test in column.get("data_tests", []):
                    kind = test if isinstance(test, str) else next(iter(test))
                    found.add((model["name"], KINDS[kind], column["name"]))
    return found


def test_no_rule_is_told_by_dbt_and_again_by_great_expectations():
    asked = {
        (suite.table, rule["type"], rule["kwargs"].get("column"))
        for suite in SUITES.values()
        for rule in suite.expectations
    }
    tested = tested_by_dbt()
    assert len(tested) > 20 and not asked & tested


def test_great_expectations_looks_at_what_python_makes_and_at_what_training_asks_again():
    assert {table for table in SUITES if table not in TABLES} == {"training_set"}
    assert not {table for table, _, _ in tested_by_dbt()} & TABLES.keys()


@pytest.mark.parametrize(
    "table", sorted(SUITES.keys() & TABLES.keys() - {"quarantine", "promotions"})
)
def test_a_tables_key_is_the_one_that_its_schema_names(table):
    (rule,) = [rule for rule in SUITES[table].expectations if rule["name"] == "key_unique"]
    columns = rule["kwargs"].get("column_list") or [rule["kwargs"]["column"]]
    assert columns == list(TABLES[table].key)


def test_the_checks_of_a_table_have_names_of_their_own():
    for suite in SUITES.values():
        names = [rule["name"] for rule in suite.expectations]
        assert len(set(names)) == len(names), suite.table
