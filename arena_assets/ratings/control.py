"""Ratings with the effect of length and style taken out.

The model of Bradley and Terry gets covariates, as LMArena's style control and AlpacaEval's length
control do: logit P(1 beats 2) = s_1 - s_2 + b . x, where x compares the looks of the two answers.
The ratings are the strengths s: what would be left if both answers looked alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array, csr_array, hstack

from arena_assets.ratings.bradley_terry import (
    SANDWICH,
    Anchor,
    Intervals,
    bounds,
    ratings_table,
    require_anchor,
)
from arena_assets.ratings.comparisons import (
    Comparisons,
    count,
    design_of,
    positions,
    sides,
    witnesses,
)
from arena_assets.ratings.reading import NAME, open_table

# What is counted in an answer; a comparison is (first - second) / (first + second), so between -1
# and 1 whatever the unit, and then divided by its standard deviation over the battles.
FEATURES = {
    "length": "length(text)",
    "headers": r"len(regexp_extract_all(text, '(?m)^#{1,6}\s+\S'))",
    "lists": r"len(regexp_extract_all(text, '(?m)^\s*([-*+]|\d+[.)])\s+\S'))",
    "bold": r"len(regexp_extract_all(text, '\*\*[^*\n]+\*\*|__[^_\n]+__'))",
}
CONTROLS = {"length": ("length",), "style": tuple(FEATURES)}


class MissingResponses(ValueError):
    """Battles whose answers are not in the responses; the message names the first of them."""


@dataclass(frozen=True)
class Effect:
    """What one standard deviation more of a feature is worth in rating points (95 % interval)."""

    feature: str
    points: float
    lower: float
    upper: float


def style_features(battles: pa.Table, responses: Path, control: str) -> np.ndarray:
    """The comparison of both answers' looks, one row a battle and one column a feature.

    `responses` is a Parquet, CSV or JSONL file with prompt_id, contestant and text. Raises
    MissingResponses where the answer of a battle is not there.
    """
    names = CONTROLS[control]
    counted = ", ".join(f"({FEATURES[name]})::double as {name}" for name in names)
    compared = ", ".join(
        f"(one.{name} - two.{name}) / greatest(one.{name} + two.{name}, 1) as {name}"
        for name in names
    )
    columns = ("prompt_id", "contestant", "text")
    with duckdb.connect() as connection:
        there = open_table(connection, responses, columns, MissingResponses).columns
        missing = [name for name in columns if name not in there]
        if missing:
            raise MissingResponses(
                f"{responses}: columns {', '.join(missing)} missing (there: {', '.join(there)})"
            )
        connection.execute(
            f"""
            create temp table looks as
            select prompt_id::varchar as prompt_id,
                   {NAME.format("contestant::varchar")} as contestant, {counted}
            from (select * replace (text::varchar as text) from source)
            """
        )
        keys = battles.select(["prompt_id", "contestant_1", "contestant_2"])
        connection.register("battles", keys.append_column("row", pa.array(range(len(keys)))))
        rows = connection.sql(
            f"""
            select battles.prompt_id, battles.contestant_1, battles.contestant_2,
                   one.prompt_id is null as lacks_1, two.prompt_id is null as lacks_2, {compared}
            from battles
            left join looks as one
              on one.prompt_id = battles.prompt_id and one.contestant = battles.contestant_1
            left join looks as two
              on two.prompt_id = battles.prompt_id and two.contestant = battles.contestant_2
            order by battles.row
            """
        ).to_arrow_table()
    if rows.num_rows != battles.num_rows:
        raise MissingResponses(f"{responses}: a contestant answers a prompt more than once")
    for side in ("1", "2"):
        lacking = rows.filter(rows[f"lacks_{side}"])
        if lacking.num_rows:
            first = lacking.slice(0, 1).to_pylist()[0]
            raise MissingResponses(
                f"{responses}: no answer of {first[f'contestant_{side}']!r} to prompt "
                f"{first['prompt_id']!r} ({lacking.num_rows} battles lack one)"
            )
    features = np.column_stack([rows[name].to_numpy() for name in names])
    deviation = features.std(axis=0)
    return features / np.where(deviation > 0, deviation, 1)


def rate_controlled(
    battles: pa.Table,
    features: np.ndarray,
    control: str,
    anchor: Anchor,
    intervals: Intervals = SANDWICH,
) -> tuple[pa.Table, list[Effect]]:
    """Ratings as of `rate`, with the effect of the features taken out, and the effect of each.

    `features` has a row a battle. Intervals are made as in `rate`.
    """
    counts = count(battles)
    require_anchor(counts, anchor)
    size = len(counts.contestants)
    lower, estimate, upper = bounds(counts, _comparisons(battles, features, size), intervals)
    table = ratings_table(counts, lower[:size], estimate[:size], upper[:size], anchor)
    effects = [
        Effect(name, float(estimate[k]), float(lower[k]), float(upper[k]))
        for k, name in enumerate(CONTROLS[control], size)
    ]
    return table, effects


def _comparisons(battles: pa.Table, features: np.ndarray, size: int) -> Comparisons:
    """Every battle for itself: each has its own looks."""
    first, second, _ = sides(battles)
    prompt, prompts = positions(witnesses(battles))
    score, weight = battles["score"].to_numpy(), battles["weight"].to_numpy()
    shape = (len(prompts), len(score))

    def points(values: np.ndarray) -> csr_array:
        return coo_array((values, (prompt, np.arange(len(score)))), shape=shape).tocsr()

    return Comparisons(
        size=size,
        design=hstack([design_of(first, second, size), csr_array(features)], format="csr"),
        won=points(weight * score),
        lost=points(weight * (1 - score)),
    )
