"""What prompts, slices and the arena test set have to be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from arena_assets.checks.suite import (
    Suite,
    between,
    columns_of,
    expect,
    filled,
    only,
    rows,
    unique,
)
from arena_assets.config.prompts import Prompts
from arena_assets.curation.collection import STEPS
from arena_assets.curation.text import spoken

_WITH_TEXT = """
    select * exclude (messages),
           list_aggregate(list_transform(messages, lambda m: m.content), 'string_agg', ' ') as text,
           messages[-1].role as last_role
    from {table}
"""
_UNIT_LENGTH = """
    select *, len(embedding) > 0 and (
        -- a text without any known word has no direction
        abs(list_dot_product(embedding, embedding) - 1) < 1e-3 or list_max(embedding) = 0
    ) as unit
    from {table}
"""


def prompt_suites(prompts: Prompts) -> list[Suite]:
    """The suites of what comes before the first round."""
    drops = (*STEPS, "dropped_near_testset", "prompt_drops")
    return [
        _suite("models", columns_of("models"), rows(), filled("digest_present", "digest")),
        Suite("prompts", _prompt_rules("prompts"), _WITH_TEXT, partitions="source"),
        Suite(
            "quarantine",
            (
                columns_of("quarantine"),
                expect("nothing_quarantined", "table_row_count_to_equal", value=0, blocking=False),
            ),
            partitions="source",
        ),
        _curated_suite(),
        _suite("benchmarks"),
        *(_suite(table, columns_of(table), filled("reason_given", "reason")) for table in drops),
        _suite("prompt_embeddings", rows(), only("unit_length", "unit", True), sql=_UNIT_LENGTH),
        _suite("decontamination_report", columns_of("decontamination_report")),
        _suite(
            "arena_testset",
            columns_of("arena_testset"),
            rows(),
            only("known_parts", "part", "diverse", "hard", "held out"),
            only("known_purposes", "purpose", "select", "report", "held_out", "all"),
            only("no_family_in_both_parts", "in_both_parts", False),
            *_split_rules(prompts),
            filled("version_given", "version"),
            only("one_version", "versions", 1),
            sql="""
                select t.*, (select count(distinct version) from {table}) as versions,
                       t.purpose = 'select' and t.family in (
                           select family from {table} where purpose = 'report') as in_both_parts
                from {table} as t
            """,
        ),
        _slices_suite(prompts),
    ]


def _suite(table: str, *rules: dict[str, Any], sql: str = "select * from {table}") -> Suite:
    """The suite of a table of one partition, whose key identifies a row."""
    return Suite(table, (unique(table), *rules), sql, partitions="none")


def _split_rules(prompts: Prompts) -> Iterator[dict[str, Any]]:
    """Where a split is asked for: a test set that is too small for it says so."""
    if prompts.testset.report_share:
        yield only("is_split", "purpose", "select", "report", "held_out", blocking=False)


def _prompt_rules(table: str) -> tuple[dict[str, Any], ...]:
    return (
        rows(),
        unique(table),
        filled("text_present", "text"),
        only("ends_with_user", "last_role", "user"),
        between("difficulty_range", "difficulty", 0, 10),
    )


def _curated_suite() -> Suite:
    return Suite(
        "prompts_curated",
        (*_prompt_rules("prompts_curated"), only("holds_the_test_set", "test_prompts_missing", 0)),
        f"""
        select t.*, (
            select count(*) from arena_testset
            where prompt_id not in (select prompt_id from {{table}})
        ) as test_prompts_missing
        from ({_WITH_TEXT}) as t
        """,
        others=("arena_testset",),
        partitions="none",
    )


def _slices_suite(prompts: Prompts) -> Suite:
    initial = prompts.slices.initial
    return Suite(
        "slices",
        (
            columns_of("slices"),
            rows(),
            unique("slices"),
            only("disjoint_from_testset", "in_testset", False),
            # the unexpected value says which slices lack how many
            only("every_slice_is_full", "lacking", ""),
            expect(
                "no_near_duplicate_of_testset",
                "column_values_to_be_between",
                column="similarity_to_testset",
                max_value=prompts.near_duplicates.threshold,
                strict_max=True,
            ),
        ),
        _slices_sql(prompts.near_duplicates.words),
        others=("arena_testset", "prompts_curated"),
        partitions="none",
        parameters={
            "threshold": prompts.near_duplicates.threshold,
            "names": list(prompts.slices.names),
            "rows": prompts.slices.rows,
            "initial": initial.name if initial else None,
            "initial_rows": initial.rows if initial else 0,
        },
    )


def _slices_sql(size: int) -> str:
    """The slices with what they lack, and how near each prompt comes to one of the test set.

    Near is the Jaccard similarity of two prompts' sets of `size` words in a row.
    """
    # the table's name is filled in later
    said = spoken("prompts_curated").replace("{", "{{").replace("}", "}}")
    return f"""
        with words as (
            select prompt_id, words, text from {said}
        ), grams as (
            -- {size} words in a row are a gram; its hash stands for it
            -- a prompt shorter than a gram is one gram of its own
            select prompt_id, unnest(list_distinct(list_transform(
                range(1, greatest(len(words) - {size} + 1, 1) + 1),
                lambda i: hash(array_to_string(words[i:i + {size - 1}], ' '))
            ))) as gram
            from words
        ), sizes as (
            select prompt_id, count(*) as size, any_value(text) as text
            from grams join words using (prompt_id) group by prompt_id
        ), tested as (
            select grams.* from grams semi join arena_testset using (prompt_id)
        ), common as (
            select grams.prompt_id, tested.prompt_id as test_id, count(*) as both_hold
            from grams join tested using (gram)
            where grams.prompt_id in (select prompt_id from {{table}})
            group by all
        ), near as materialized (
            select common.prompt_id, one.text, two.text as test_text,
                   both_hold / (one.size + two.size - both_hold) as similarity
            from common
            join sizes as one on one.prompt_id = common.prompt_id
            join sizes as two on two.prompt_id = common.test_id
            where similarity >= $threshold
        ), nearest as (
            -- with other numbers, negations or names it is no near-duplicate
            select prompt_id, max(similarity) as similarity from near
            where guard_of(text) = guard_of(test_text) group by prompt_id
        ), pool as (
            select count(*) as prompts
            from prompts_curated anti join arena_testset using (prompt_id)
        ), wanted as (
            select unnest($names) as slice,
                   -- without a number of rows, slices share what the first one leaves
                   coalesce($rows::bigint, greatest((prompts - $initial_rows) // len($names), 1))
                       as rows
            from pool
            union all
            select $initial::varchar, $initial_rows where $initial_rows > 0
        ), there as (
            select slice, count(*) as rows
            from {{table}} semi join prompts_curated using (prompt_id) group by slice
        ), short as (
            select string_agg(
                slice || ': ' || coalesce(there.rows, 0) || ' of ' || wanted.rows,
                ', ' order by slice
            ) as lacking
            from wanted left join there using (slice)
            where coalesce(there.rows, 0) < wanted.rows
        )
        select t.*, t.prompt_id in (select prompt_id from arena_testset) as in_testset,
               coalesce((select lacking from short), '') as lacking,
               coalesce(nearest.similarity, 0) as similarity_to_testset
        from {{table}} as t left join nearest using (prompt_id)
    """
