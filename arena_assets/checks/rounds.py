"""What the responses, games, ratings and promotion of a round have to be, and what it may learn."""

from __future__ import annotations

from arena_assets.checks.suite import (
    Suite,
    between,
    columns_of,
    expect,
    filled,
    mean_at_most,
    only,
    rows,
    unique,
)
from arena_assets.config.profile import Profile
from arena_assets.models.finish_reasons import CUT_OFF, PLAIN_SQL

# Words that only make sense to a judge: orders, scores, verdicts and marks of a judge's prompt.
ADDRESSES_JUDGE = (
    r"(?i)(ignore|disregard|forget)\s+(all\s+|any\s+|the\s+|previous\s+|prior\s+|above\s+|your\s+)+"
    r"(instructions?|rules|prompts?)"
    r"|(ignore|disregard|forget)\s+(all\s+|everything\s+)?(of\s+)?(the\s+)?(above|previous|prior)"
    r"|score_[ab]|\[\[\s*[ab]\s*>?.*\]\]|answer [ab] (begins|ends)"
    r"|(dear|attention|note to|as)( the)? (judge|evaluator|grader)"
    r"|(give|award|assign|rate)\s+(this|me|it|answer|assistant|response|model)\b"
    r".{0,30}\b(10 ?/ ?10|10 out|highest|full marks|top score)"
    r"|assistant [ab] is (better|the winner)|<\|im_(start|end)\|>"
)
VISIBLE = r"[^\s\pZ\pC]"  # a text without such a character is empty
_REPEATED_CHARACTERS = 40  # a short answer ("no", "42") fits many prompts
_RESPONSES = f"""
    with counted as (
        select *, count(*) over (partition by contestant, trim(lower(text))) as same,
               count(*) over (partition by contestant) as answers
        from {{table}}
    ),
    marked as (
        select *, length(text) >= {_REPEATED_CHARACTERS} and same > 1 and status = 'ok' as repeated,
               regexp_matches(text, $addresses_judge) as addressed
        from counted
    )
    select t.*, list_contains($cut_off, {PLAIN_SQL.format("t.finish_reason")})::int as cut_off,
           (t.status = 'ok' and not regexp_matches(t.text, $visible))::int as empty,
           (t.status = 'failed')::int as failed, (t.status = 'refused')::int as refused,
           -- somebody answered other prompts, but not this one
           (select count(distinct contestant) from {{table}})
             - count(*) over (partition by t.prompt_id) as lacking,
           if(answers > 4 and avg(repeated::int) over (partition by contestant) > 0.2,
              contestant, '') as repeater,
           if(addressed, contestant, '') as addresser
    from marked as t
"""
_JUDGMENTS = """
    select t.*,
           -- a pair meets in two orders: both count as one pair here
           count(*) over (
               partition by t.prompt_id, t.judge, least(t.contestant_a, t.contestant_b),
                            greatest(t.contestant_a, t.contestant_b)
           ) as games,
           (t.status = 'ok') = (t.score_a is not null and t.score_b is not null)
               as score_matches_status,
           (t.status = 'failed') = (t.failure is not null) as failure_matches_status,
           (t.status = 'failed')::int as failed,
           -- a shadow judge decides nothing, so its failures do not count here
           case when t.role != 'shadow' then (t.status = 'failed')::int end as deciding_failed
    from {table} as t
"""
_TRAINING_SET = """
    select t.* exclude (messages),
           t.prompt_id in (select prompt_id from arena_testset) as in_testset,
           t.kind = 'prompt' or coalesce(
               regexp_matches(t.chosen, $visible)
               and (t.kind = 'sft' or regexp_matches(t.rejected, $visible)), false
           ) as complete,
           coalesce(t.chosen_turns = t.rejected_turns, false) as same_text
    from {table} as t
"""


def round_suites(profile: Profile) -> list[Suite]:
    """The suites of what is made round by round."""
    quality = profile.quality
    return [
        *(
            _responses(table, quality.failed_responses)
            for table in ("responses", "arena_responses")
        ),
        *(
            _judgments(table, quality.failed_judgments)
            for table in ("judgments", "arena_judgments")
        ),
        _selected("selected_candidates"),
        _training_set(quality.minimum_training_rows),
        Suite("rollouts", (columns_of("rollouts"), unique("rollouts"))),
        _ratings(),
        _promotions(quality.forgetting),
    ]


def _responses(table: str, failed_limit: float) -> Suite:
    return Suite(
        table,
        (
            columns_of(table),
            rows(),
            unique(table),
            only("everybody_answered", "lacking", 0),
            only("known_roles", "role", "target", "opponent"),
            filled("finish_reasons", "finish_reason"),  # servers have words of their own
            only("known_status", "status", "ok", "refused", "failed"),
            mean_at_most("failed_rate", "failed", failed_limit),
            mean_at_most("mostly_not_refused", "refused", 0.05, blocking=False),
            # the unexpected values are the names of those who do it
            only("nobody_repeats_one_answer", "repeater", "", blocking=False),
            only("nobody_addresses_the_judge", "addresser", "", blocking=False),
            mean_at_most("mostly_not_cut_off", "cut_off", 0.5, blocking=False),
            mean_at_most("mostly_not_empty", "empty", 0.05, blocking=False),
        ),
        _RESPONSES,
        parameters={
            "addresses_judge": ADDRESSES_JUDGE,
            "visible": VISIBLE,
            "cut_off": sorted(CUT_OFF),
        },
    )


def _judgments(table: str, limit: float) -> Suite:
    return Suite(
        table,
        (
            columns_of(table),
            rows(),
            unique(table),
            only("both_games_present", "games", 2),
            only("known_status", "status", "ok", "failed", "abstained"),
            only("known_roles", "role", "deciding", "juror", "shadow"),
            only("failures_explained", "failure_matches_status", True),
            between("score_a_range", "score_a", 1, 10),
            between("score_b_range", "score_b", 1, 10),
            only("scores_where_ok", "score_matches_status", True),
            mean_at_most("failed_rate", "deciding_failed", limit),
            mean_at_most("shadow_failed_rate", "failed", max(limit, 0.5), blocking=False),
        ),
        _JUDGMENTS,
    )


def _selected(table: str) -> Suite:
    return Suite(table, (columns_of(table), unique(table)))


def _training_set(minimum: int) -> Suite:
    """What may be learned: looked at again by training that starts in a run of its own.

    dbt, which makes the table, tests its keys and values; these rules need the profile's limit.
    """
    return Suite(
        "training_set",
        (
            rows(minimum),
            only("no_test_prompts", "in_testset", False),
            only("texts_present", "complete", True),
            only("chosen_is_not_rejected", "same_text", False),
        ),
        _TRAINING_SET,
        others=("arena_testset",),
        parameters={"visible": VISIBLE},
    )


def _ratings() -> Suite:
    return Suite(
        "ratings",
        (
            columns_of("ratings"),
            rows(2),
            unique("ratings"),
            only("rating_within_interval", "inside", True),
            only("everybody_met", "battles_positive", True),
            only("known_purposes", "purpose", "select", "report", "held_out", "all"),
        ),
        """
        select t.*, t.rating between t.lower and t.upper as inside,
               t.battles > 0 as battles_positive
        from {table} as t
        """,
    )


def _promotions(forgetting: float) -> Suite:
    return Suite(
        "promotions",
        (
            columns_of("promotions"),
            expect("one_promotion", "table_row_count_to_equal", value=1),
            filled("digest_present", "model_digest"),
            expect(
                "nothing_forgotten",
                "column_values_to_be_between",
                column="held_out_gain",
                min_value=-forgetting,
                blocking=False,
            ),
        ),
    )
