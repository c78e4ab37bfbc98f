"""What curation dropped, counted: by step and reason, and against each benchmark with examples."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from arena_assets.curation.collection import STEPS, remaining
from arena_assets.curation.contamination import EXACT, NEAR, NEIGHBOUR, OVERLAP
from arena_assets.curation.text import TEXT
from arena_assets.lake.lake import ALL, Lake

_EXAMPLES = 3  # a benchmark and rule


def counted_reasons(lake: Lake, table: str) -> pa.Table:
    """How many prompts a table of drops holds by step, reason and benchmark."""
    return lake.query(
        """
        select step, reason, against, count(*) as rows from drops
        group by all order by rows desc, step, reason, against limit 50
        """,
        drops=(table, ALL),
    )


def decontamination(lake: Lake, sources: Sequence[str], version: str) -> pa.Table:
    """Rows of decontamination_report: how many prompts repeat what, the test set being `version`.

    Every benchmark has a row a rule, also where nothing was found.
    """
    with remaining(lake, sources, STEPS[0]) as connection:
        for name, table, partition in (
            ("prompt_drops", "prompt_drops", ALL),
            ("benchmarks", "benchmarks", ALL),
            ("testset", "testset_versions", version),
        ):
            file = str(lake.present(table, partition))
            connection.register(name, connection.read_parquet(file))
        return connection.sql(
            f"""
            with items as (
                select benchmark as against, item_id, {TEXT} as item from benchmarks
                union all
                select 'arena_testset', prompt_id, {TEXT} from testset
            ), hits as (
                select drops.*, left({TEXT}, 300) as text,
                       row_number() over (
                           partition by drops.against, drops.reason order by drops.prompt_id
                       ) as nth
                from prompt_drops as drops join collected using (prompt_id)
                where drops.step = 'decontamination'
            ), against as (
                select distinct benchmark as against from benchmarks union select 'arena_testset'
            ), rules as (
                select against, unnest($rules) as reason from against
                union all select 'arena_testset', $near
            )
            select rules.against, rules.reason, count(hits.prompt_id) as rows,
                   coalesce(list({{
                       prompt_id: hits.prompt_id, text: hits.text, match: hits.match,
                       item: left(items.item, 300), score: hits.score
                   }} order by nth) filter (nth <= {_EXAMPLES}), [])::json::varchar as examples
            from rules
            left join hits on hits.against = rules.against and hits.reason = rules.reason
            left join items on items.against = hits.against and items.item_id = hits.match
            group by all order by all
            """,
            params={"rules": [EXACT, OVERLAP, NEIGHBOUR], "near": NEAR},
        ).to_arrow_table()
