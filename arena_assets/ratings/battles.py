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

    `select` is SQL over the view `source` that gives prompt_id, one, two, label (null where the
    verdict is missing), preference (share of the point for `one`), weight and category.
    """

    description: str
    required: tuple[str, ...]
    select: str
    labels: Mapping[str, float] | None = None


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
    graded = "preference" in columns and "winner" not in columns
    loaders = {
        "battles": Loader(
            "model_a, model_b and winner (model_a, model_b, tie, both_bad) or preference (0-1: the "
            "share of the point for model_a)",
            ("model_a", "model_b", "preference" if graded else "winner"),
            f"select {common}, source.model_a as one, source.model_b as two, "
            + (
                "null::varchar as label, source.preference::double as preference"
                if graded
                else "source.winner::varchar as label, null::double as preference"
            )
            + " from source",
            None if graded else _LMARENA,
        ),
        "lmarena": Loader(
            "model_a, model_b and winner as LMArena publishes them",
            ("model_a", "model_b", "winner"),
            f"select {common}, source.model_a as one, source.model_b as two, "
            "source.winner::varchar as label, null::double as preference from source",
            _LMARENA,
        ),
        "alpaca_eval": Loader(
            "generator_1 and generator_2 (or model_a and model_b) and preference from 1 (the "
            "first) to 2 (the second)",
            ("preference",),
            f"select {common}, {_or('generator_1', columns, 'source.model_a')} as one, "
            f"{_or('generator_2', columns, 'source.model_b')} as two, null::varchar as label, "
            "2 - source.preference::double as preference from source",
        ),
        "arena_hard": Loader(
            "model and games, two of them: the baseline first, then the model first",
            ("model", "games"),
            f"""
            with judged as (
                select {common.replace("1::double", "null::double")}, source.model as model,
                       {_or("baseline", columns, f"'{_ARENA_HARD_BASELINE}'")} as baseline,
                       unnest([source.games[1].score, source.games[2].score]) as label,
                       unnest([1, 2]) as game
                from source
            )
            select prompt_id, if(label like '%>>%', 3, 1)::double as weight, category,
                   if(game = 1, baseline, model) as one, if(game = 1, model, baseline) as two,
                   label::varchar as label, null::double as preference
            from judged
            """,
            _ARENA_HARD,
        ),
        "llmfao": Loader(
            "left, right and winner (left, right, tie)",
            ("left", "right", "winner"),
            f'select {common}, source."left" as one, source."right" as two, '
            "source.winner::varchar as label, null::double as preference from source",
            _LLMFAO,
        ),
        "lake": Loader(
            "a partition of battles or arena_battles of the lake",
            ("contestant_1", "contestant_2", "winner", "status", "role"),
            f"""
            select {common}, source.contestant_1 as one, source.contestant_2 as two,
                   case when source.status = 'tie' then 'tie'
                        when source.winner = source.contestant_1 then 'model_a'
                        when source.winner = source.contestant_2 then 'model_b'
                        when source.status = 'decided' then source.winner end as label,
                   null::double as preference
            from source where source.role = 'deciding'
            """,
            _LMARENA,
        ),
    }
    if name not in loaders:
        raise BadBattles(f"no loader {name!r} (there: {', '.join(loaders)})")
    return loaders[name]


def read_battles(source: Path | pa.Table, loader: str = "battles") -> Battles:
    """Battles of a Parquet, CSV or JSONL file (or an Arrow table) in the common form.

    Rows whose verdict is missing (null) are undecided. Raises BadBattles with the number of the
    first row (from 1) whose label is unknown, whose preference is no number from 0 to 1, or whose
    contestants are missing or the same.
    """
    with duckdb.connect() as connection:
        place = str(source) if isinstance(source, Path) else "the table"
        relation = connection.from_arrow(source) if isinstance(source, pa.Table) else None
        if relation is None:
            relation = _open(connection, source)
        relation.create_view("source")
        columns = set(relation.columns)
        how = _loader(loader, columns)
        missing = [name for name in how.required if name not in columns]
        if missing:
            raise BadBattles(
                f"{place}: columns {', '.join(missing)} missing (there: "
                f"{', '.join(relation.columns)}); the loader {loader} reads {how.description}"
            )
        score = "rows.preference"
        if how.labels:
            cases = " ".join(
                f"when '{label}' then {points}" for label, points in how.labels.items()
            )
            score = f"case rows.label {cases} end"
        connection.execute(
            f"""
            create temp view rated as
            select rows.*, {score} as score, row_number() over () as row from ({how.select}) as rows
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
    labels = ", ".join(how.labels) if how.labels else ""
    found = connection.execute(
        """
        select row, one, two, label, preference, weight from rated
        where (label is not null and score is null)
           or coalesce(not (preference between 0 and 1), false) or isnan(preference)
           or one is null or two is null or trim(one) = '' or trim(two) = '' or one = two
           or coalesce(weight <= 0 or isnan(weight) or isinf(weight), false)
        order by row limit 1
        """
    ).fetchone()
    if found is None:
        return
    row, one, two, label, preference, weight = found
    if not one or not two or not one.strip() or not two.strip():
        what = f"a contestant is missing (found {one!r} and {two!r})"
    elif one == two:
        what = f"{one!r} meets itself"
    elif label is not None and label not in (how.labels or {}):
        what = f"unknown verdict {label!r} (valid: {labels}; empty for a failed judgment)"
    elif weight is not None and not 0 < weight < float("inf"):
        what = f"weight {weight} is no positive number"
    else:
        what = f"a preference of {preference} is outside the valid range"
    raise BadBattles(f"{place}, row {row}: {what}")
