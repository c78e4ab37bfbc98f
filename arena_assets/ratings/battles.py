"""Battles from any table, brought into one form; a row that is not clear is an error.

The common form has prompt_id, contestant_1, contestant_2, score (the share of the point that
contestant_1 gets: 1 a win, 0.5 a tie, in between a graded preference), weight, category and family:
prompts of one family are one witness. Battles that were not decided because a judgment failed are
counted and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from arena_assets.ratings.reading import NAME, Source, open_table

BATTLES = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("contestant_1", pa.string()),
        ("contestant_2", pa.string()),
        ("score", pa.float64()),
        ("weight", pa.float64()),
        ("category", pa.string()),
        ("family", pa.string()),
    ]
)


class BadBattles(ValueError):
    """A table that cannot be read as battles; the message names the row and what would be valid."""


@dataclass(frozen=True)
class Battles:
    """Battles that count, in the common form.

    `undecided` rows had no decision, and `alone` battles no prompt: each of those counts as one on
    a prompt of its own.
    """

    table: pa.Table
    undecided: int = 0
    alone: int = 0

    def of_category(self, category: str) -> Battles:
        """Only the battles of one category; BadBattles names the ones there are."""
        import pyarrow.compute as pc

        chosen = self.table.filter(pc.equal(self.table["category"], category))
        if not chosen.num_rows:
            there = sorted(filter(None, pc.unique(self.table["category"]).to_pylist()))
            raise BadBattles(f"no battles of category {category!r} (there: {', '.join(there)})")
        return Battles(chosen, self.undecided, min(self.alone, chosen.num_rows))


# The share of the point that the first contestant gets, by the word in the column `winner`.
_LMARENA = {
    "model_a": 1.0,
    "model_b": 0.0,
    "tie": 0.5,
    "tie (bothbad)": 0.5,
    "both_bad": 0.5,
    "bothbad": 0.5,
}
_LLMFAO = {"left": 1.0, "right": 0.0, "tie": 0.5}
# Arena-Hard counts a clear win three times (its weight for ">>").
_ARENA_HARD = {
    **{"A>>B": 1.0, "A>B": 1.0, "A=B": 0.5, "A<B": 0.0, "A<<B": 0.0},
    **{"B>>A": 0.0, "B>A": 0.0, "B=A": 0.5, "B<A": 1.0, "B<<A": 1.0},
}
_ARENA_HARD_BASELINE = "gpt-4-0314"  # of v0.1, whose files do not name it
# What names the prompt of a battle, the surest first; AlpacaEval has nothing but the text itself.
PROMPT_COLUMNS = (
    *("prompt_id", "question_id", "instruction_id", "uid"),
    *("instruction", "prompt", "question"),
)
_NAMES = ("model_a", "model_b", "generator_1", "generator_2", "model", "baseline", "left", "right")
_COLUMNS = (
    *PROMPT_COLUMNS,
    *_NAMES,
    *("contestant_1", "contestant_2", "winner", "preference", "games", "status", "role"),
    *("weight", "category", "prompt_family"),
)
# the games of Arena-Hard as JSON, whether the file is Parquet or JSON
_GAMES = """if(typeof(source.games) = 'VARCHAR',
    coalesce(try_cast(source.games::varchar as json), to_json(source.games::varchar)),
    to_json(source.games))"""
# A winner and a preference say the same; where a tie is called, the preference may lean.
_AGREES = """coalesce(case score
    when 1 then try_cast(other as double) between 0.5 and 1
    when 0 then try_cast(other as double) between 0 and 0.5
    when 0.5 then try_cast(other as double) > 0 and try_cast(other as double) < 1
end, false)"""
# pandas writes a missing name as nan
_NONE = "coalesce(lower(trim({0})), '') in ('', 'nan')"
_WEIGHTS = (1e-6, 1e6)  # beyond, sums of points lose their digits


@dataclass(frozen=True)
class TableKind:
    """How one kind of table is read.

    `select` is SQL over the table `source` that gives prompt_id, one, two, verdict (text as it was
    given, null where it is missing), weight, category and family; `names` are the columns of
    the contestants. `score` is SQL over `verdict` for the share of the point that `one` gets, null
    where the verdict is not one of `valid`; `missing` is SQL for a verdict that says "none".
    """

    description: str
    required: tuple[str, ...]
    names: tuple[str, ...]
    select: str
    score: str
    valid: str
    missing: str = "verdict is null"


def _labelled(labels: Mapping[str, float], cleaned: str = "lower(trim(verdict))") -> dict[str, str]:
    """Verdicts that are words."""
    cases = " ".join(f"when '{label}' then {points}" for label, points in labels.items())
    return {"score": f"case {cleaned} {cases} end", "valid": ", ".join(labels)}


def _or(name: str, columns: set[str], otherwise: str) -> str:
    return f"source.{name}::varchar" if name in columns else otherwise


def _kind_of_table(name: str, columns: set[str]) -> TableKind:
    """The loader of that name for a table with these columns."""
    prompt = next((c for c in PROMPT_COLUMNS if c in columns), PROMPT_COLUMNS[0])
    common = (
        f"{_or(prompt, columns, 'null::varchar')} as prompt_id, "
        f"{_or('weight', columns, 'null::varchar')} as weight, "
        f"{_or('category', columns, 'null::varchar')} as category, "
        f"{_or('prompt_family', columns, 'null::varchar')} as family"
    )

    def pairs(one: str, two: str, verdict: str, other: str = "null") -> str:
        return (
            f"select {common}, source.{one}::varchar as one, source.{two}::varchar as two, "
            f"source.{verdict}::varchar as verdict, {other}::varchar as other from source"
        )

    generators = "generator_1" in columns
    judged = ("generator_1", "generator_2") if generators else ("model_a", "model_b")
    loaders = {
        "battles": _battles(columns, pairs),
        "lmarena": TableKind(
            "model_a, model_b and winner as LMArena publishes them",
            ("model_a", "model_b", "winner"),
            ("model_a", "model_b"),
            pairs("model_a", "model_b", "winner"),
            **_labelled(_LMARENA),
        ),
        "alpaca_eval": TableKind(
            "generator_1 and generator_2 (or model_a and model_b) and preference from 1 (the "
            "first) to 2 (the second), 0 and 1.5 a draw",
            ("preference", *(() if generators else judged)),
            judged,
            pairs(*judged, "preference"),
            # AlpacaEval's own metrics read 0 as a draw, and NaN as not annotated
            score="case when {0} = 0 then 0.5 when {0} between 1 and 2 then 2 - {0} end".format(
                "try_cast(verdict as double)"
            ),
            valid="a number from 1 to 2, or 0 for a draw",
            missing="verdict is null or lower(verdict) = 'nan'",
        ),
        "arena_hard": _arena_hard(columns, common),
        "llmfao": TableKind(
            "left, right and winner (left, right, tie)",
            ("left", "right", "winner"),
            ("left", "right"),
            pairs('"left"', '"right"', "winner"),
            **_labelled(_LLMFAO),
        ),
        "lake": TableKind(
            "a partition of battles or arena_battles of the lake",
            ("contestant_1", "contestant_2", "winner", "status", "role"),
            ("contestant_1", "contestant_2"),
            f"""
            select {common}, source.contestant_1 as one, source.contestant_2 as two,
                   case when source.status = 'tie' then 'tie'
                        when source.winner = source.contestant_1 then 'model_a'
                        when source.winner = source.contestant_2 then 'model_b'
                        when source.status = 'decided' then source.winner end as verdict,
                   null::varchar as other
            from source where source.role = 'deciding'
            """,
            **_labelled(_LMARENA),
        ),
    }
    if name not in loaders:
        raise BadBattles(f"no loader {name!r} (there: {', '.join(loaders)})")
    return loaders[name]


def _battles(columns: set[str], pairs: Callable[..., str]) -> TableKind:
    """The common form; where winner and preference are both there, they have to agree."""
    graded = "preference" in columns and "winner" not in columns
    verdict = "preference" if graded else "winner"
    other = "source.preference" if {"preference", "winner"} <= columns else "null"
    share = "try_cast(verdict as double)"
    score = (
        {"score": f"if({share} between 0 and 1, {share}, null)", "valid": "a number from 0 to 1"}
        if graded
        else _labelled(_LMARENA)
    )
    return TableKind(
        "model_a, model_b and winner (model_a, model_b, tie, both_bad) or preference (0-1: the "
        "share of the point for model_a)",
        ("model_a", "model_b", verdict),
        ("model_a", "model_b"),
        pairs("model_a", "model_b", verdict, other),
        **score,
    )


def _arena_hard(columns: set[str], common: str) -> TableKind:
    """Two games a row; a game that failed leaves the other one."""
    return TableKind(
        "model and games, two of them: the baseline first, then the model first",
        ("model", "games"),
        tuple({"model", "baseline"} & columns),
        f"""
        with judged as (
            select {common}, source.model::varchar as model,
                   {_or("baseline", columns, f"'{_ARENA_HARD_BASELINE}'")} as baseline,
                   {_GAMES} as games
            from source
        ),
        games as (
            select judged.*, unnest([0, 1]) as game,
                   unnest([games ->> '$[0].score', games ->> '$[1].score']) as verdict
            from judged
        )
        select prompt_id, category, family, if(game = 0, baseline, model) as one,
               if(game = 0, model, baseline) as two,
               case when json_type(games) = 'ARRAY' and json_array_length(games) > 2
                    then json_array_length(games) || ' games'
                    when json_type(games) not in ('ARRAY', 'NULL') then games::varchar
                    else verdict end as verdict,
               -- a clear win weighs three times, times what the table says
               case when verdict like '%>>%' or verdict like '%<<%'
                    then (3 * coalesce(try_cast(weight as double), 1))::varchar
                    else weight end as weight,
               null::varchar as other
        from games
        """,
        **_labelled(_ARENA_HARD, r"upper(regexp_replace(verdict, '[\[\]\s]', '', 'g'))"),
    )


def read_battles(source: str | Path | pa.Table, loader: str = "battles") -> Battles:
    """Battles of a file (Parquet, CSV, TSV, JSON, JSONL) or an Arrow table in the common form.

    Rows whose verdict is missing (null) are undecided. Raises BadBattles with the number of the
    first row (from 1) whose verdict is unknown, out of range or contradicted, whose weight is no
    positive number, or whose contestants are missing, no text or the same.
    """
    with duckdb.connect() as connection:
        if isinstance(source, str | Path):
            place, opened = str(source), open_table(connection, Path(source), _COLUMNS, BadBattles)
        else:
            place, opened = "the table", Source(source.column_names, {})
            connection.register("source", source)
        how = _kind_of_table(loader, set(opened.columns))
        _refuse_columns(place, how, loader, opened)
        connection.execute(
            f"""
            create temp table rated as
            select rows.*, {how.score} as score, {how.missing} as undecided,
                   row_number() over () as row,
                   try_cast(coalesce(weight, '1') as double) as times
            from (
                select * replace ({NAME.format("one")} as one, {NAME.format("two")} as two,
                                  if({_NONE.format("other")}, null, other) as other)
                from ({how.select})
            ) as rows
            """
        )
        _refuse_unclear_rows(connection, place, how)
        undecided, alone = connection.sql(
            f"""
            select count(*) filter (undecided),
                   count(*) filter (not undecided and {_NONE.format("prompt_id")})
            from rated
            """
        ).fetchall()[0]
        table = connection.sql(
            f"""
            select prompt_id, one as contestant_1, two as contestant_2, score, times as weight,
                   category, if({_NONE.format("family")}, prompt_id, family) as family
            from (
                select * replace (if({_NONE.format("prompt_id")}, 'row ' || row, prompt_id)
                                  as prompt_id) from rated
            ) where not undecided order by row
            """
        ).to_arrow_table()
    return Battles(table.cast(BATTLES), undecided, alone)


def _refuse_columns(place: str, how: TableKind, loader: str, source: Source) -> None:
    """BadBattles where columns are missing, or a name is a list or an object."""
    missing = [name for name in how.required if name not in source.columns]
    if missing:
        raise BadBattles(
            f"{place}: columns {', '.join(missing)} missing (there: "
            f"{', '.join(source.columns)}); the loader {loader} reads {how.description}"
        )
    for name in how.names:
        if name in source.nested:
            raise BadBattles(
                f"{place}, row {source.nested[name]}: {name} is a list or an object where a name "
                "is needed"
            )


def _refuse_unclear_rows(connection: duckdb.DuckDBPyConnection, place: str, how: TableKind) -> None:
    """BadBattles for the first row that says something which is no battle."""
    least, most = _WEIGHTS
    unclear = {
        "nameless": f"{_NONE.format('one')} or {_NONE.format('two')}",
        "itself": "one = two",
        "unknown": "not undecided and score is null",
        "contradicted": f"other is not null and not {_AGREES}",
        "weightless": f"not coalesce(times between {least} and {most}, false)",
    }
    tests = ", ".join(f"{test} as {name}" for name, test in unclear.items())
    found = connection.execute(
        f"""
        select row, one, two, verdict, other, weight, {tests} from rated
        where {" or ".join(f"({test})" for test in unclear.values())}
        order by row limit 1
        """
    ).fetchone()
    if found is None:
        return
    row, one, two, verdict, other, weight, *held = found
    messages = {
        "nameless": f"a contestant is missing (found {one!r} and {two!r})",
        "itself": f"{one!r} meets itself",
        "unknown": f"unknown verdict {verdict!r} (valid: {how.valid}; nothing for a failed "
        "judgment)",
        "contradicted": f"the winner {verdict!r} and the preference {other!r} (0-1: the share of "
        "the point for model_a) contradict each other; leave one of the columns out",
        "weightless": f"weight {weight} is no positive number from {least:g} to {most:g}",
    }
    reason = next(name for name, true in zip(unclear, held, strict=True) if true)
    raise BadBattles(f"{place}, row {row}: {messages[reason]}")
