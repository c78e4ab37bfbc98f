"""How far a judge can be trusted: agreement, its biases, its failures and what it cost.

Every judge of a round is compared with a reference: the judge that decides, or labels by people.
Agreement and Cohen's kappa (J. Cohen, 1960: (observed - expected) / (1 - expected)) are over
battles that both settled, with three outcomes: the first contestant, the second one, a tie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb
import pyarrow as pa

from arena_assets.config.judges import LLMJudge
from arena_assets.config.models import Price
from arena_assets.config.profile import Profile
from arena_assets.lake.lake import Lake
from arena_assets.lake.tables import JUDGE_AUDIT

LABEL_COLUMNS = ("prompt_id", "contestant_a", "contestant_b", "winner")

# what a judge said of a battle that it settled: 1 and 2 for the contestant that won, 0 for a tie
_SETTLED = """
    create temp view settled as
    select prompt_id, contestant_1, contestant_2, judge, role,
           case winner when contestant_1 then 1 when contestant_2 then 2 else 0 end as outcome
    from battles where status in ('decided', 'tie')
"""
_DECIDING = """
    create temp view reference as
    select prompt_id, contestant_1, contestant_2, outcome, judge as reference
    from settled where role = 'deciding'
"""
_AUDIT = """
    with games as (
        select judge, any_value(judge_version) as version, count(*) as games,
               avg((status = 'failed')::int) as failed_rate,
               avg((status = 'abstained')::int) as abstained_rate,
               -- sign is 1, 0 or -1: a game won by the answer shown first is 1, a tie a half
               avg((sign(score_a - score_b) + 1) / 2) as first_position_preference,
               -- unknown where one game's are: a sum of the others would look like all
               if(bool_or(prompt_tokens is null), null, sum(prompt_tokens))::bigint
                   as prompt_tokens,
               if(bool_or(completion_tokens is null), null, sum(completion_tokens))::bigint
                   as completion_tokens
        from judgments group by judge
    ),
    lengths as (
        select battles.*, sign(length(one.text) - length(two.text)) as longer
        from battles
        join responses as one
          on one.prompt_id = battles.prompt_id and one.contestant = battles.contestant_1
        join responses as two
          on two.prompt_id = battles.prompt_id and two.contestant = battles.contestant_2
    ),
    fought as (
        select judge, any_value(role) as role, count(*) as battles,
               avg((games_won_1 > 0 and games_won_2 > 0)::int) filter (games_ok = 2) as flip_rate,
               avg(if((winner = contestant_1) = (longer > 0), 1, 0))
                   filter (winner is not null and longer != 0) as longer_preference
        from lengths group by judge
    ),
    compared as (
        select settled.judge, any_value(reference.reference) as reference,
               count(*) as battles_compared,
               avg((settled.outcome = reference.outcome)::int) as agreement,
               -- what two judges would agree on by chance: each outcome, as often as each says it
               avg((settled.outcome = 1)::int) * avg((reference.outcome = 1)::int)
               + avg((settled.outcome = 2)::int) * avg((reference.outcome = 2)::int)
               + avg((settled.outcome = 0)::int) * avg((reference.outcome = 0)::int) as expected
        from settled join reference using (prompt_id, contestant_1, contestant_2)
        where settled.judge != reference.reference
        group by settled.judge
    )
    select $round as round, fought.judge, fought.role, games.version, fought.battles, games.games,
           games.failed_rate, games.abstained_rate, fought.flip_rate,
           games.first_position_preference, fought.longer_preference, compared.reference,
           coalesce(compared.battles_compared, 0) as battles_compared, compared.agreement,
           (compared.agreement - expected) / nullif(1 - expected, 0) as kappa,
           games.prompt_tokens, games.completion_tokens,
           (games.prompt_tokens * prices.prompt + games.completion_tokens * prices.completion) / 1e6
               as cost
    from fought
    left join games using (judge)
    left join compared using (judge)
    left join prices using (judge)
    order by fought.role, fought.judge
"""


def judge_prices(profile: Profile) -> dict[str, Price]:
    """What each judge's model costs; the verifier costs nothing, an unknown price is left out."""
    prices = {}
    for judge in profile.single_judges:
        price = profile.models[judge.model].price if isinstance(judge, LLMJudge) else None
        if price or not isinstance(judge, LLMJudge):
            prices[judge.name] = price or Price(prompt=0, completion=0)
    return prices


def audit_judges(
    lake: Lake,
    partition: str,
    prices: Mapping[str, Price],
    labels: Path | None = None,
    on_testset: bool = False,
) -> pa.Table:
    """One row a judge, in the columns of JUDGE_AUDIT; `labels` replace the deciding judge.

    Of the round's own battles, or those `on_testset`. Unknown is null: what a judge costs without a
    price, kappa where chance alone explains everything. ValueError where the labels cannot be read.
    """
    prefix = "arena_" if on_testset else ""
    tables = {
        name: (f"{prefix}{name}", partition) for name in ("judgments", "battles", "responses")
    }
    rows = [{"judge": name, **price.model_dump()} for name, price in prices.items()]
    schema = pa.schema(
        [("judge", pa.string()), ("prompt", pa.float64()), ("completion", pa.float64())]
    )
    with lake.connect(**tables, prices=pa.Table.from_pylist(rows, schema=schema)) as connection:
        connection.execute(_SETTLED)
        if labels is None:
            connection.execute(_DECIDING)
        else:
            _create_reference(connection, labels)
        found = connection.sql(_AUDIT, params={"round": partition}).to_arrow_table()
    return found.select(JUDGE_AUDIT.schema.names).cast(JUDGE_AUDIT.schema)


def _create_reference(connection: duckdb.DuckDBPyConnection, labels: Path) -> None:
    """The view `reference` of labels by people; several people may label one battle."""
    readers: dict[str, Callable[[str], duckdb.DuckDBPyRelation]] = {
        ".csv": lambda path: connection.read_csv(path, header=True, all_varchar=True),
        ".jsonl": lambda path: connection.read_json(path, format="newline_delimited"),
        ".parquet": connection.read_parquet,
    }
    if labels.suffix not in readers or not labels.exists():
        raise ValueError(f"{labels}: expected an existing file, one of {', '.join(readers)}")
    relation = readers[labels.suffix](str(labels))
    missing = [name for name in LABEL_COLUMNS if name not in relation.columns]
    if missing:
        raise ValueError(
            f"{labels}: columns missing: {', '.join(missing)} (expected {', '.join(LABEL_COLUMNS)})"
        )
    relation.create("labels")
    unknown = connection.sql(
        """
        select distinct winner from labels
        where winner is null or winner not in (contestant_a, contestant_b, 'a', 'b', 'tie') limit 3
        """
    ).fetchall()
    if unknown:
        shown = ", ".join(repr(value) for (value,) in unknown)
        raise ValueError(f"{labels}: winner {shown} is none of the row's contestants, a, b or tie")
    connection.execute(
        """
        create temp view reference as
        with named as (
            select *, case winner when 'a' then contestant_a when 'b' then contestant_b else winner
                      end as named
            from labels
        )
        select prompt_id, least(contestant_a, contestant_b) as contestant_1,
               greatest(contestant_a, contestant_b) as contestant_2,
               case named when contestant_1 then 1 when contestant_2 then 2 else 0 end as outcome,
               'labels' as reference
        from named
        """
    )
