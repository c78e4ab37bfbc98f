"""What every table has to be: expectations as plain data, read without importing a library.

A suite looks at `sql`: the table itself with columns derived beside it (how many games a battle
has, whether a prompt is in the test set), so that rules over several tables are expectations on a
column too. `{table}` is the partition under test; other names are tables of the lake. Critical
expectations block what comes after them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from arena_assets.config.profile import Profile
from arena_assets.config.prompts import Prompts
from arena_assets.curation.collection import STEPS
from arena_assets.curation.text import spoken
from arena_assets.generation.best_of import CUT_OFF
from arena_assets.lake.tables import TABLES


@dataclass(frozen=True)
class Suite:
    """The expectations of one table.

    `others` are unpartitioned tables that the SQL reads; `partitions` says what a partition of the
    table is: a round, a source, or nothing.
    """

    table: str
    expectations: tuple[dict[str, Any], ...]
    sql: str = "select * from {table}"
    others: tuple[str, ...] = ()
    partitions: str = "round"
    parameters: Mapping[str, Any] = field(default_factory=dict)


def expect(name: str, type_: str, *, blocking: bool = True, **kwargs: Any) -> dict[str, Any]:
    """One expectation: its name as a check, the type of Great Expectations, and its arguments."""
    return {
        "name": name,
        "type": f"expect_{type_}",
        "kwargs": kwargs,
        "severity": "critical" if blocking else "warning",
    }


def _columns(table: str) -> dict[str, Any]:
    # lists are left out of what a suite looks at
    names = [f.name for f in TABLES[table].schema if not str(f.type).startswith("list")]
    return expect(
        "columns_present", "table_columns_to_match_set", column_set=names, exact_match=False
    )


def _rows(minimum: int = 1, blocking: bool = True) -> dict[str, Any]:
    return expect("has_rows", "table_row_count_to_be_between", min_value=minimum, blocking=blocking)


def _unique(*columns: str) -> dict[str, Any]:
    if len(columns) == 1:
        return expect("key_unique", "column_values_to_be_unique", column=columns[0])
    return expect("key_unique", "compound_columns_to_be_unique", column_list=list(columns))


def _only(name: str, column: str, *values: Any, blocking: bool = True) -> dict[str, Any]:
    return expect(
        name, "column_values_to_be_in_set", column=column, value_set=list(values), blocking=blocking
    )


def _filled(name: str, column: str, blocking: bool = True) -> dict[str, Any]:
    return expect(
        name, "column_value_lengths_to_be_between", column=column, min_value=1, blocking=blocking
    )


def suites(profile: Profile) -> Mapping[str, Suite]:
    """The suite of every table, by the table's name."""
    judged = _judgment_suites(profile)
    limit = profile.quality.failed_responses
    answered = [_response_suite(table, limit) for table in ("responses", "arena_responses")]
    return {
        suite.table: suite
        for suite in [*_prompt_suites(profile.prompts), *answered, *judged, *_round_suites(profile)]
    }


def _prompt_suites(prompts: Prompts) -> list[Suite]:
    size, initial = prompts.near_duplicates.words, prompts.slices.initial
    # the table's name is filled in later
    said = spoken("prompts_curated").replace("{", "{{").replace("}", "}}")
    words = "list_aggregate(list_transform(messages, lambda m: m.content), 'string_agg', ' ')"
    with_text = f"select * exclude (messages), {words} as text, messages[-1].role as last_role from {{table}}"
    prompt_rules = (
        _rows(),
        _unique("prompt_id"),
        _filled("text_present", "text"),
        _only("ends_with_user", "last_role", "user"),
        expect(
            "difficulty_range",
            "column_values_to_be_between",
            column="difficulty",
            min_value=0,
            max_value=10,
        ),
    )
    return [
        Suite(
            "models",
            (
                _columns("models"),
                _rows(),
                _unique("name"),
                _filled("digest_present", "digest"),
            ),
            partitions="none",
        ),
        Suite("prompts", prompt_rules, with_text, partitions="source"),
        Suite(
            "quarantine",
            (
                _columns("quarantine"),
                expect("nothing_quarantined", "table_row_count_to_equal", value=0, blocking=False),
            ),
            partitions="source",
        ),
        Suite(
            "prompts_curated",
            (*prompt_rules, _only("holds_the_test_set", "test_prompts_missing", 0)),
            f"""
            select t.*, (
                select count(*) from arena_testset
                where prompt_id not in (select prompt_id from {{table}})
            ) as test_prompts_missing
            from ({with_text}) as t
            """,
            others=("arena_testset",),
            partitions="none",
        ),
        Suite(
            "benchmarks",
            (_unique("benchmark", "item_id"),),
            partitions="none",
        ),
        *(_drops_suite(table) for table in (*STEPS, "dropped_near_testset", "prompt_drops")),
        Suite(
            "prompt_embeddings",
            (_rows(), _unique("prompt_id"), _only("unit_length", "unit", True)),
            """
            select *, len(embedding) > 0 and (
                -- a text without any known word has no direction
                abs(list_dot_product(embedding, embedding) - 1) < 1e-3 or list_max(embedding) = 0
            ) as unit from {table}
            """,
            partitions="none",
        ),
        Suite(
            "decontamination_report",
            (_columns("decontamination_report"), _unique("against", "reason")),
            partitions="none",
        ),
        Suite(
            "arena_testset",
            (
                _columns("arena_testset"),
                _rows(),
                _unique("prompt_id"),
                _only("known_parts", "part", "diverse", "hard"),
                _filled("version_given", "version"),
                _only("one_version", "versions", 1),
            ),
            "select t.*, (select count(distinct version) from {table}) as versions from {table} as t",
            partitions="none",
        ),
        Suite(
            "slices",
            (
                _columns("slices"),
                _rows(),
                _unique("prompt_id"),
                _only("disjoint_from_testset", "in_testset", False),
                # the unexpected value says which slices lack how many
                _only("every_slice_is_full", "lacking", ""),
                expect(
                    "no_near_duplicate_of_testset",
                    "column_values_to_be_between",
                    column="similarity_to_testset",
                    max_value=prompts.near_duplicates.threshold,
                    strict_max=True,
                ),
            ),
            f"""
            with words as (
                select prompt_id, words, text from {said}
            ), grams as (
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
                select count(*) as prompts from prompts_curated anti join arena_testset using (prompt_id)
            ), wanted as (
                select unnest($names) as slice,
                       coalesce($rows::bigint, greatest((prompts - $initial_rows) // len($names), 1)) as rows
                from pool
                union all
                select $initial::varchar, $initial_rows where $initial_rows > 0
            ), there as (
                select slice, count(*) as rows
                from {{table}} semi join prompts_curated using (prompt_id) group by slice
            ), short as (
                select string_agg(
                    slice || ': ' || coalesce(there.rows, 0) || ' of ' || wanted.rows, ', ' order by slice
                ) as lacking
                from wanted left join there using (slice)
                where coalesce(there.rows, 0) < wanted.rows
            )
            select t.*, t.prompt_id in (select prompt_id from arena_testset) as in_testset,
                   coalesce((select lacking from short), '') as lacking,
                   coalesce(nearest.similarity, 0) as similarity_to_testset
            from {{table}} as t left join nearest using (prompt_id)
            """,
            others=("arena_testset", "prompts_curated"),
            partitions="none",
            parameters={
                "threshold": prompts.near_duplicates.threshold,
                "names": list(prompts.slices.names),
                "rows": prompts.slices.rows,
                "initial": initial.name if initial else None,
                "initial_rows": initial.rows if initial else 0,
            },
        ),
    ]


def _drops_suite(table: str) -> Suite:
    rules = (_columns(table), _unique("prompt_id"), _filled("reason_given", "reason"))
    return Suite(table, rules, partitions="none")


# Words that only make sense to a judge: orders, scores, verdicts and marks of a judge's prompt.
ADDRESSES_JUDGE = (
    r"(?i)(ignore|disregard|forget)\s+(all\s+|any\s+|the\s+|previous\s+|prior\s+|above\s+|your\s+)+"
    r"(instructions?|rules|prompts?)"
    r"|(ignore|disregard|forget)\s+(all\s+|everything\s+)?(of\s+)?(the\s+)?(above|previous|prior)"
    r"|score_[ab]|\[\[\s*[ab]\s*>?.*\]\]|answer [ab] (begins|ends)"
    r"|(dear|attention|note to|as)( the)? (judge|evaluator|grader)"
    r"|(give|award|assign|rate)\s+(this|me|it|answer|assistant|response|model)\b.{0,30}\b(10 ?/ ?10|10 out|highest|full marks|top score)"
    r"|assistant [ab] is (better|the winner)|<\|im_(start|end)\|>"
)
VISIBLE = r"[^\s\pZ\pC]"  # a text without such a character is empty
_REPEATED_CHARACTERS = 40  # a short answer ("no", "42") fits many prompts


def _response_suite(table: str, failed_limit: float) -> Suite:
    return Suite(
        table,
        (
            _columns(table),
            _rows(),
            _unique("prompt_id", "contestant"),
            _only("everybody_answered", "lacking", 0),
            _only("known_roles", "role", "target", "opponent"),
            _filled("finish_reasons", "finish_reason"),  # servers have words of their own
            _only("known_status", "status", "ok", "refused", "failed"),
            expect(
                "failed_rate",
                "column_mean_to_be_between",
                column="failed",
                max_value=failed_limit,
            ),
            expect(
                "mostly_not_refused",
                "column_mean_to_be_between",
                column="refused",
                max_value=0.05,
                blocking=False,
            ),
            # the unexpected values are the names of those who do it
            _only("nobody_repeats_one_answer", "repeater", "", blocking=False),
            _only("nobody_addresses_the_judge", "addresser", "", blocking=False),
            expect(
                "mostly_not_cut_off",
                "column_mean_to_be_between",
                column="cut_off",
                max_value=0.5,
                blocking=False,
            ),
            expect(
                "mostly_not_empty",
                "column_mean_to_be_between",
                column="empty",
                max_value=0.05,
                blocking=False,
            ),
        ),
        """
        with counted as (
            select *, count(*) over (partition by contestant, trim(lower(text))) as same,
                   count(*) over (partition by contestant) as answers
            from {table}
        ),
        marked as (
            select *, length(text) >= """
        + str(_REPEATED_CHARACTERS)
        + """ and same > 1 and status = 'ok' as repeated,
                   regexp_matches(text, $addresses_judge) as addressed
            from counted
        )
        select t.*, list_contains($cut_off, regexp_replace(lower(trim(t.finish_reason)), '[ -]', '_', 'g'))::int as cut_off,
               (t.status = 'ok' and not regexp_matches(t.text, $visible))::int as empty,
               (t.status = 'failed')::int as failed, (t.status = 'refused')::int as refused,
               (select count(distinct contestant) from {table})
                 - count(*) over (partition by t.prompt_id) as lacking,
               if(answers > 4 and avg(repeated::int) over (partition by contestant) > 0.2,
                  contestant, '') as repeater,
               if(addressed, contestant, '') as addresser
        from marked as t
        """,
        parameters={
            "addresses_judge": ADDRESSES_JUDGE,
            "visible": VISIBLE,
            "cut_off": sorted(CUT_OFF),
        },
    )


def _judgment_suites(profile: Profile) -> list[Suite]:
    limit = profile.quality.failed_judgments

    def suite(table: str) -> Suite:
        return Suite(
            table,
            (
                _columns(table),
                _rows(),
                _unique("prompt_id", "contestant_a", "contestant_b", "judge"),
                _only("both_games_present", "games", 2),
                _only("known_status", "status", "ok", "failed", "abstained"),
                _only("known_roles", "role", "deciding", "juror", "shadow"),
                _only("failures_explained", "failure_matches_status", True),
                expect(
                    "score_a_range",
                    "column_values_to_be_between",
                    column="score_a",
                    min_value=1,
                    max_value=10,
                ),
                expect(
                    "score_b_range",
                    "column_values_to_be_between",
                    column="score_b",
                    min_value=1,
                    max_value=10,
                ),
                _only("scores_where_ok", "score_matches_status", True),
                expect(
                    "failed_rate",
                    "column_mean_to_be_between",
                    column="deciding_failed",
                    max_value=limit,
                ),
                expect(
                    "shadow_failed_rate",
                    "column_mean_to_be_between",
                    column="failed",
                    max_value=max(limit, 0.5),
                    blocking=False,
                ),
            ),
            """
            select t.*,
                   count(*) over (
                       partition by t.prompt_id, t.judge,
                       least(t.contestant_a, t.contestant_b), greatest(t.contestant_a, t.contestant_b)
                   ) as games,
                   (t.status = 'ok') = (t.score_a is not null and t.score_b is not null) as score_matches_status,
                   (t.status = 'failed') = (t.failure is not null) as failure_matches_status,
                   (t.status = 'failed')::int as failed,
                   -- a shadow judge decides nothing, so its failures do not count here
                   case when t.role != 'shadow' then (t.status = 'failed')::int end as deciding_failed
            from {table} as t
            """,
        )

    return [suite("judgments"), suite("arena_judgments")]


def _round_suites(profile: Profile) -> list[Suite]:
    return [
        Suite(
            "training_set",
            (
                _rows(profile.quality.minimum_training_rows),
                _unique("row_id"),
                _only("known_kinds", "kind", "sft", "preference", "prompt"),
                _only("no_test_prompts", "in_testset", False),
                _only("texts_present", "complete", True),
                _only("chosen_is_not_rejected", "same_text", False),
            ),
            """
            select t.* exclude (messages), t.prompt_id in (select prompt_id from arena_testset) as in_testset,
                   t.kind = 'prompt' or coalesce(
                       regexp_matches(t.chosen, $visible)
                       and (t.kind = 'sft' or regexp_matches(t.rejected, $visible)), false
                   ) as complete,
                   coalesce(t.chosen_turns = t.rejected_turns, false) as same_text
            from {table} as t
            """,
            others=("arena_testset",),
            parameters={"visible": VISIBLE},
        ),
        Suite(
            "ratings",
            (
                _columns("ratings"),
                _rows(2),
                _unique("contestant"),
                _only("rating_within_interval", "inside", True),
                _only("everybody_met", "battles_positive", True),
            ),
            """
            select t.*, t.rating between t.lower and t.upper as inside, t.battles > 0 as battles_positive
            from {table} as t
            """,
        ),
        Suite(
            "promotions",
            (
                _columns("promotions"),
                expect("one_promotion", "table_row_count_to_equal", value=1),
                _filled("digest_present", "model_digest"),
            ),
        ),
    ]
