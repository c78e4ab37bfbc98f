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

from arena_assets.ratings.bradley_terry import (
    ELO,
    PRIOR_PRECISION,
    Anchor,
    _numbers,
    _ratings_table,
    count,
    require_connection,
)

# What is counted in an answer; a comparison is (first - second) / (first + second), so between -1
# and 1 whatever the unit, and then divided by its standard deviation over the battles.
FEATURES = {
    "length": "length(text)",
    "headers": r"len(regexp_extract_all(text, '(?m)^#{1,6}\s+\S'))",
    "lists": r"len(regexp_extract_all(text, '(?m)^\s*([-*+]|\d+[.)])\s+\S'))",
    "bold": r"len(regexp_extract_all(text, '\*\*[^*\n]+\*\*|__[^_\n]+__'))",
}
CONTROLS = {"length": ("length",), "style": tuple(FEATURES)}
_NEWTON_STEPS, _TOLERANCE = 50, 1e-8


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
    with duckdb.connect() as connection:
        read = {".parquet": "read_parquet", ".csv": "read_csv"}.get(responses.suffix, "read_json")
        connection.execute(
            f"""
            create temp table looks as
            select prompt_id::varchar as prompt_id, contestant::varchar as contestant, {counted}
            from {read}($path)
            """,
            {"path": str(responses)},
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
    battles: pa.Table, features: np.ndarray, control: str, anchor: Anchor
) -> tuple[pa.Table, list[Effect]]:
    """Ratings as of `rate`, without the effect of the features, and the effect of each.

    Intervals are those of the sandwich estimator with prompts as clusters.
    """
    counts = count(battles)
    require_connection(counts)
    size, extra = len(counts.contestants), features.shape[1]
    both = pa.chunked_array([*battles["contestant_1"].chunks, *battles["contestant_2"].chunks])
    sides, _ = _numbers(both)
    first, second = sides[: len(features)], sides[len(features) :]
    score, weight = battles["score"].to_numpy(), battles["weight"].to_numpy()

    def spread(values: np.ndarray) -> np.ndarray:
        """The sum of (e_first - e_second) times a value a battle: shape (size,)."""
        return np.bincount(first, values, size) - np.bincount(second, values, size)

    parameters = np.zeros(size + extra)
    for _ in range(_NEWTON_STEPS):
        strength, effect = parameters[:size], parameters[size:]
        expected = 1 / (1 + np.exp(-(strength[first] - strength[second] + features @ effect)))
        residual = weight * (score - expected)
        gradient = np.concatenate([spread(residual), residual @ features])
        gradient -= PRIOR_PRECISION * parameters
        information = weight * expected * (1 - expected)
        hessian = np.zeros((size + extra, size + extra))
        pair = np.bincount(first * size + second, information, size * size).reshape(size, size)
        pair = pair + pair.T
        hessian[:size, :size] = np.diag(pair.sum(axis=1)) - pair
        mixed = np.column_stack([spread(information * column) for column in features.T])
        hessian[:size, size:], hessian[size:, :size] = mixed, mixed.T
        hessian[size:, size:] = (features * information[:, None]).T @ features
        hessian += PRIOR_PRECISION * np.eye(size + extra)
        step = np.linalg.solve(hessian, gradient)
        parameters = parameters + step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-300))
        if np.abs(step).max() < _TOLERANCE:
            break
    covariance = _clustered_covariance(battles, first, second, features, residual, hessian, size)
    centre = np.eye(size + extra)
    centre[:size, :size] -= 1 / size
    parameters = centre @ parameters
    margin = 1.959964 * ELO * np.sqrt(np.diag(centre @ covariance @ centre.T))
    estimate = ELO * parameters
    table = _ratings_table(
        counts,
        (estimate - margin)[:size],
        estimate[:size],
        (estimate + margin)[:size],
        anchor,
    )
    effects = [
        Effect(
            name, float(estimate[k]), float(estimate[k] - margin[k]), float(estimate[k] + margin[k])
        )
        for k, name in enumerate(CONTROLS[control], size)
    ]
    return table, effects


def _clustered_covariance(
    battles: pa.Table,
    first: np.ndarray,
    second: np.ndarray,
    features: np.ndarray,
    residual: np.ndarray,
    hessian: np.ndarray,
    size: int,
) -> np.ndarray:
    """The sandwich: gradients are summed over the battles of a prompt before they are squared."""
    prompt, prompts = _numbers(battles["prompt_id"])
    gradients = np.zeros((len(prompts), len(hessian)))
    np.add.at(gradients, (prompt, first), residual)
    np.subtract.at(gradients, (prompt, second), residual)
    for column in range(features.shape[1]):
        gradients[:, size + column] = np.bincount(
            prompt, residual * features[:, column], len(prompts)
        )
    bread = np.linalg.inv(hessian)
    correction = len(prompts) / max(len(prompts) - 1, 1)
    return bread @ (gradients.T @ gradients) @ bread * correction
