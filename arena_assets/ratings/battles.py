"""Battles from any table, brought into one form; a row that is not clear is an error.

The common form has prompt_id, contestant_1, contestant_2, score (the share of the point that
contestant_1 gets: 1 a win, 0.5 a tie, in between a graded preference), weight and category. Battles
that were not decided because a judgment failed are counted and left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

BATTLES = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("contestant_1", pa.string()),
        ("contestant_2", pa.string()),
        ("score", pa.float64()),
        ("weight", pa.float64()),
        ("category", pa.string()),
    ]
)


class BadBattles(ValueError):
    """A table that cannot be read as battles; the message names the row and what would be valid."""


@dataclass(frozen=True)
class Battles:
    """Battles that count, in the common form, and how many rows had no decision."""

    table: pa.Table
    undecided: int = 0

    def of_category(self, category: str) -> Battles:
        """Only the battles of one category; BadBattles names the ones there are."""
        import pyarrow.compute as pc

        chosen = self.table.filter(pc.equal(self.table["category"], category))
        if not chosen.num_rows:
            there = sorted(filter(None, pc.unique(self.table["category"]).to_pylist()))
            raise BadBattles(f"no battles of category {category!r} (there: {', '.join(there)})")
        return Battles(chosen, self.undecided)


# The share of the point that the first contestant gets, by the word in the column `winner`.
_LMARENA = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5, "both_bad": 0.5}
_LLMFAO = {"left": 1.0, "right": 0.0, "tie": 0.5}
# Arena-Hard counts a clear win three times (its weight for ">>").
_ARENA_HARD = {"A>>B": 1.0, "A>B": 1.0, "A=B": 0.5, "B>A": 0.0, "B>>A": 0.0}
_ARENA_HARD_BASELINE = "gpt-4-0314"  # of v0.1, whose files do not name it


@dataclass(frozen=True)
class Loader:
    """How one kind of table is read.

    `select` is SQL over the view `source` that gives prompt_id, one, two, verdict (text as it was
    given, null where it is missing), weight and category; `score` is SQL over `verdict` for the
    share of the point that `one` gets, null where the verdict is not one of `valid`.
    """

    description: str
    required: tuple[str, ...]
    select: str
    score: str
    valid: str


def _labelled(labels: Mapping[str, float]) -> dict[str, str]:
    """Verdicts that are words."""
    cases = " ".join(f"when '{label}' then {points}" for label, points in labels.items())
    return {"score": f"case verdict {cases} end", "valid": ", ".join(labels)}


def _graded(score: str, low: int, high: int) -> dict[str, str]:
    """Verdicts that are numbers between two ends."""
    share = f"({score})"
    inside = f"if({share} between 0 and 1 and not isnan({share}), {share}, null)"
    return {"score": inside, "valid": f"a number from {low} to {high}"}


def _or(name: str, columns: set[str], otherwise: str) -> str:
    return f"source.{name}" if name in columns else otherwise


def _loader(name: str, columns: set[str]) -> Loader:
    """The loader of that name for a table with these columns."""
    prompt = next((c for c in ("prompt_id", "question_id", "uid", "prompt") if c in columns), None)
    common = (
        f"{f'source.{prompt}::varchar' if prompt else 'null::varchar'} as prompt_id, "
        f"{_or('weight', columns, '1')}::double as weight, "
        f"{_or('category', columns, 'null')}::varchar as category"
    )

    def pairs(one: str, two: str, verdict: str) -> str:
        return (
            f"select {common}, source.{one} as one, source.{two} as two, "
            f"source.{verdict}::varchar as verdict from source"
        )

    graded = "preference" in columns and "winner" not in columns
    verdict = "preference" if graded else "winner"
    generators = "generator_1" in columns
    loaders = {
        "battles": Loader(
            "model_a, model_b and winner (model_a, model_b, tie, both_bad) or preference (0-1: the "
            "share of the point for model_a)",
            ("model_a", "model_b", verdict),
            pairs("model_a", "model_b", verdict),
            **(_graded("try_cast(verdict as double)", 0, 1) if graded else _labelled(_LMARENA)),
        ),
        "lmarena": Loader(
            "model_a, model_b and winner as LMArena publishes them",
            ("model_a", "model_b", "winner"),
            pairs("model_a", "model_b", "winner"),
            **_labelled(_LMARENA),
        ),
        "alpaca_eval": Loader(
            "generator_1 and generator_2 (or model_a and model_b) and preference from 1 (the "
            "first) to 2 (the second)",
            ("preference", *(() if generators else ("model_a", "model_b"))),
            pairs(
                "generator_1" if generators else "model_a",
                "generator_2" if generators else "model_b",
                "preference",
            ),
            **_graded("2 - try_cast(verdict as double)", 1, 2),
        ),
        "arena_hard": Loader(
            "model and games, two of them: the baseline first, then the model first",
            ("model", "games"),
            f"""
            with judged as (
                select {common}, source.model as model,
                       {_or("baseline", columns, f"'{_ARENA_HARD_BASELINE}'")} as baseline,
                       unnest([source.games[1].score, source.games[2].score]) as verdict,
                       unnest([1, 2]) as game
                from source
            )
            select prompt_id, if(verdict like '%>>%', 3, 1)::double as weight, category,
                   if(game = 1, baseline, model) as one, if(game = 1, model, baseline) as two,
                   verdict::varchar as verdict
            from judged
            """,
            **_labelled(_ARENA_HARD),
        ),
        "llmfao": Loader(
            "left, right and winner (left, right, tie)",
            ("left", "right", "winner"),
            pairs('"left"', '"right"', "winner"),
            **_labelled(_LLMFAO),
        ),
        "lake": Loader(
            "a partition of battles or arena_battles of the lake",
            ("contestant_1", "contestant_2", "winner", "status", "role"),
            f"""
            select {common}, source.contestant_1 as one, source.contestant_2 as two,
                   case when source.status = 'tie' then 'tie'
                        when source.winner = source.contestant_1 then 'model_a'
                        when source.winner = source.contestant_2 then 'model_b'
                        when source.status = 'decided' then source.winner end as verdict
            from source where source.role = 'deciding'
            """,
            **_labelled(_LMARENA),
        ),
    }
    if name not in loaders:
        raise BadBattles(f"no loader {name!r} (there: {', '.join(loaders)})")
    return loaders[name]


def read_battles(source: Path | pa.Table, loader: str = "battles") -> Battles:
    """Battles of a Parquet, CSV or JSONL file (or an Arrow table) in the common form.

    Rows whose verdict is missing (null) are undecided. Raises BadBattles with the number of the
    first row (from 1) whose verdict is unknown or out of range, whose weight is no positive
    number, or whose contestants are missing or the same.
    """
    with duckdb.connect() as connection:
        place = str(source) if isinstance(source, Path) else "the table"
        relation = connection.from_arrow(source) if isinstance(source, pa.Table) else None
        if relation is None:
            relation = _open(connection, source)
        relation.create_view("source")
        how = _loader(loader, set(relation.columns))
        missing = [name for name in how.required if name not in relation.columns]
        if missing:
            raise BadBattles(
                f"{place}: columns {', '.join(missing)} missing (there: "
                f"{', '.join(relation.columns)}); the loader {loader} reads {how.description}"
            )
        connection.execute(
            f"""
            create temp view rated as
            select rows.*, {how.score} as score, row_number() over () as row
            from ({how.select}) as rows
            """
        )
        _refuse_unclear_rows(connection, place, how)
        undecided = connection.sql("select count(*) from rated where score is null").fetchall()
        table = connection.sql(
            """
            select coalesce(prompt_id, 'row ' || row) as prompt_id, one::varchar as contestant_1,
                   two::varchar as contestant_2, score, coalesce(weight, 1) as weight, category
            from rated where score is not null
            """
        ).to_arrow_table()
    return Battles(table.cast(BATTLES), undecided[0][0])


def _open(connection: duckdb.DuckDBPyConnection, path: Path) -> duckdb.DuckDBPyRelation:
    if not path.exists():
        raise BadBattles(f"{path}: no such file")
    readers = {
        ".parquet": connection.read_parquet,
        ".csv": connection.read_csv,
        ".jsonl": connection.read_json,
    }
    if path.suffix not in readers:
        raise BadBattles(f"{path}: not one of {', '.join(readers)}")
    return readers[path.suffix](str(path))


def _refuse_unclear_rows(connection: duckdb.DuckDBPyConnection, place: str, how: Loader) -> None:
    """BadBattles for the first row that says something which is no battle."""
    found = connection.execute(
        """
        select row, one::varchar, two::varchar, verdict, weight, score from rated
        where (verdict is not null and score is null)
           or coalesce(trim(one::varchar), '') = '' or coalesce(trim(two::varchar), '') = ''
           or one = two or coalesce(weight <= 0 or isnan(weight) or isinf(weight), false)
        order by row limit 1
        """
    ).fetchone()
    if found is None:
        return
    row, one, two, verdict, weight, score = found
    if not (one or "").strip() or not (two or "").strip():
        what = f"a contestant is missing (found {one!r} and {two!r})"
    elif one == two:
        what = f"{one!r} meets itself"
    elif verdict is not None and score is None:
        what = f"unknown verdict {verdict!r} (valid: {how.valid}; nothing for a failed judgment)"
    else:
        what = f"weight {weight} is no positive number"
    raise BadBattles(f"{place}, row {row}: {what}")
