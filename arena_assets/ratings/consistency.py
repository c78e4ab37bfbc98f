"""How far a leaderboard agrees with a reference arena: the paper's three metrics and their mean.

Pairs are pairs of models that both leaderboards hold. A leaderboard separates a pair with
confidence where the two 95 % intervals do not overlap.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from scipy.stats import spearmanr

from arena_assets.ratings.reading import open_table

LMARENA_BOARD = {"category": "full", "style": "none"}


class BadReference(ValueError):
    """A reference leaderboard or name map that cannot be used; says where and what is wrong."""


@dataclass(frozen=True)
class Consistency:
    """The metrics; `models` are the names of the leaderboard that the reference holds too.

    `agreement` is over pairs that the reference separates: +1 where the leaderboard separates them
    the same way, -1 the opposite way, 0 where its intervals overlap. `differentiation` is the share
    of pairs that the leaderboard separates. Both are None without a pair to look at.
    """

    models: tuple[str, ...]
    spearman: float
    agreement: float | None
    differentiation: float

    @property
    def mean(self) -> float | None:
        if self.agreement is None:
            return None
        return (self.spearman + self.agreement + self.differentiation) / 3


def read_names(path: Path) -> dict[str, str]:
    """The name map: a CSV of two columns with a header, our name and the reference's."""
    names: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadReference(f"{path}: {_reason(error)}") from None
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) != 2 or not all(cell.strip() for cell in row):
            raise BadReference(f"{path}, line {number}: expected two names, got {row}")
        ours, theirs = (cell.strip() for cell in row)
        if ours in names:
            raise BadReference(f"{path}, line {number}: {ours!r} is already mapped")
        names[ours] = theirs
    return names


def read_reference(
    path: Path, where: Mapping[str, str] | None = None
) -> dict[str, dict[str, float]]:
    """A reference leaderboard by model: rating, lower and upper (CSV or Parquet).

    `where` picks rows by the values of other columns; without it a file that has LMArena's columns
    category and style is read as its overall board, without style control. Raises BadReference
    for missing columns, a model that is listed twice, or where nothing is left.
    """
    wanted = {"model", "rating", "lower", "upper", *LMARENA_BOARD, *(where or {})}
    with duckdb.connect() as connection:
        columns = open_table(connection, path, wanted, BadReference).columns
        if where is None and LMARENA_BOARD.keys() <= set(columns):
            where = LMARENA_BOARD
        needed = ["model", "rating", "lower", "upper", *(where or {})]
        missing = [name for name in needed if name not in columns]
        if missing:
            raise BadReference(
                f"{path}: columns {', '.join(missing)} missing (there: {', '.join(columns)})"
            )
        conditions = " and ".join(
            f'"{name.replace(chr(34), chr(34) * 2)}"::varchar = ?' for name in where or {}
        )
        numbers = ", ".join(
            f"{name}::varchar, try_cast({name}::varchar as double)"
            for name in ("rating", "lower", "upper")
        )
        rows = connection.execute(
            f"select model::varchar, {numbers} from source"
            + (f" where {conditions}" if conditions else ""),
            list((where or {}).values()),
        ).fetchall()
    reference: dict[str, dict[str, float]] = {}
    for model, *figures in rows:
        if model in reference:
            raise BadReference(
                f"{path}: {model!r} is listed more than once; pick rows by another column "
                f"({', '.join(c for c in columns if c not in needed) or 'there is none'})"
            )
        written = dict(zip(("rating", "lower", "upper"), figures[::2], strict=True))
        rated = dict(zip(written, figures[1::2], strict=True))
        if not all(figure is not None and math.isfinite(figure) for figure in rated.values()):
            raise BadReference(f"{path}: {model!r} has no complete rating: {written}")
        reference[model] = rated
    if not reference:
        raise BadReference(f"{path}: no rows" + (f" where {dict(where)}" if where else ""))
    return reference


def consistency(
    leaderboard: Sequence[Mapping[str, Any]],
    reference: Mapping[str, Mapping[str, float]],
    names: Mapping[str, str] | None = None,
) -> Consistency:
    """Compare a leaderboard (contestant, rating, lower, upper) with a reference.

    Without `names` contestants are looked up by their own name. Raises BadReference where the map
    names a model that the reference lacks, or fewer than three models are in both.
    """
    for name, other in (names or {}).items():
        if other not in reference:
            raise BadReference(f"the name map sends {name!r} to {other!r}, which has no reference")
    rows = {row["contestant"]: row for row in leaderboard}
    mapped = names or {name: name for name in rows}
    both = sorted(name for name in rows if mapped.get(name) in reference)
    if len(both) < 3:
        raise BadReference(f"only {len(both)} models are in both leaderboards; three are needed")
    theirs = {name: reference[mapped[name]] for name in both}
    ranks = spearmanr([rows[m]["rating"] for m in both], [theirs[m]["rating"] for m in both])
    agreements, separated = [], 0
    for one, two in itertools.combinations(both, 2):
        ours = _order(rows[one], rows[two])
        separated += ours != 0
        if expected := _order(theirs[one], theirs[two]):
            agreements.append(ours * expected)
    pairs = len(both) * (len(both) - 1) // 2
    return Consistency(
        models=tuple(both),
        spearman=float(ranks.statistic),
        agreement=sum(agreements) / len(agreements) if agreements else None,
        differentiation=separated / pairs,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, UnicodeDecodeError):
        return "no UTF-8; save the file as UTF-8"
    return f"no valid CSV ({error})"


def _order(one: Mapping[str, float], two: Mapping[str, float]) -> int:
    """1 where `one` is better with confidence, -1 where it is worse, 0 where intervals overlap."""
    if one["lower"] > two["upper"]:
        return 1
    return -1 if one["upper"] < two["lower"] else 0
