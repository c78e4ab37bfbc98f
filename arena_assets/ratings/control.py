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
    count,
    positions,
    ratings_table,
    require_anchor,
    require_connection,
    sides,
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
    if not responses.exists():
        raise MissingResponses(f"{responses}: no such file")
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
    battles: pa.Table,
    features: np.ndarray,
    control: str,
    anchor: Anchor,
    resamples: int = 100,
    seed: int = 0,
    interval: str = "bootstrap",
) -> tuple[pa.Table, list[Effect]]:
    """Ratings as of `rate`, with the effect of the features taken out, and the effect of each.

    Intervals are made as in `rate`: by drawing prompts, or by the sandwich over prompts.
    """
    counts = count(battles)
    require_anchor(counts, anchor)
    require_connection(counts)
    design = _design(battles, features)
    fitted, hessian, residual = _fit(design, design.weight)
    if interval == "bootstrap":
        generator, prompts = np.random.default_rng(seed), int(design.prompt.max()) + 1
        drawn = generator.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)
        fits = [_fit(design, design.weight * times[design.prompt], fitted)[0] for times in drawn]
        centred = np.array([_centre(parameters, design.size) for parameters in fits])
        lower, estimate, upper = np.quantile(ELO * centred, [0.025, 0.5, 0.975], axis=0)
    else:
        estimate = ELO * _centre(fitted, design.size)
        margin = 1.959964 * ELO * _sandwich_errors(design, hessian, residual)
        lower, upper = estimate - margin, estimate + margin
    table = ratings_table(
        counts, lower[: design.size], estimate[: design.size], upper[: design.size], anchor
    )
    effects = [
        Effect(name, float(estimate[k]), float(lower[k]), float(upper[k]))
        for k, name in enumerate(CONTROLS[control], design.size)
    ]
    return table, effects


@dataclass(frozen=True)
class _Design:
    """Battles as arrays: positions of both contestants and of the prompt, and what is compared."""

    size: int
    first: np.ndarray
    second: np.ndarray
    prompt: np.ndarray
    score: np.ndarray
    weight: np.ndarray
    features: np.ndarray

    def spread(self, values: np.ndarray) -> np.ndarray:
        """The sum of (e_first - e_second) times a value a battle: shape (size,)."""
        to_first = np.bincount(self.first, values, self.size)
        return to_first - np.bincount(self.second, values, self.size)


def _design(battles: pa.Table, features: np.ndarray) -> _Design:
    first, second, names = sides(battles)
    prompt, _ = positions(battles["prompt_id"])
    score, weight = battles["score"].to_numpy(), battles["weight"].to_numpy()
    return _Design(len(names), first, second, prompt, score, weight, features)


def _fit(
    design: _Design, weight: np.ndarray, start: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(strengths and effects, Hessian, weighted residuals) by Newton's method with a weak prior."""
    size, features = design.size, design.features
    total = size + features.shape[1]
    parameters = np.zeros(total) if start is None else start
    for _ in range(_NEWTON_STEPS):
        strength, effect = parameters[:size], parameters[size:]
        logit = strength[design.first] - strength[design.second] + features @ effect
        expected = 1 / (1 + np.exp(-logit))
        residual = weight * (design.score - expected)
        gradient = np.concatenate([design.spread(residual), residual @ features])
        gradient -= PRIOR_PRECISION * parameters
        information = weight * expected * (1 - expected)
        pair = np.bincount(design.first * size + design.second, information, size * size)
        pair = pair.reshape(size, size) + pair.reshape(size, size).T
        mixed = np.column_stack([design.spread(information * column) for column in features.T])
        hessian = PRIOR_PRECISION * np.eye(total)
        hessian[:size, :size] += np.diag(pair.sum(axis=1)) - pair
        hessian[:size, size:] += mixed
        hessian[size:, :size] += mixed.T
        hessian[size:, size:] += (features * information[:, None]).T @ features
        step = np.linalg.solve(hessian, gradient)
        parameters = parameters + step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-300))
        if np.abs(step).max() < _TOLERANCE:
            break
    return parameters, hessian, residual


def _centre(parameters: np.ndarray, size: int) -> np.ndarray:
    """Strengths with mean zero; effects as they are."""
    shift = np.zeros(len(parameters))
    shift[:size] = parameters[:size].mean()
    return parameters - shift


def _sandwich_errors(design: _Design, hessian: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Standard errors: gradients are summed over a prompt's battles, then squared."""
    size, prompts = design.size, int(design.prompt.max()) + 1
    gradients = np.zeros((prompts, len(hessian)))
    np.add.at(gradients, (design.prompt, design.first), residual)
    np.subtract.at(gradients, (design.prompt, design.second), residual)
    for column in range(design.features.shape[1]):
        compared = residual * design.features[:, column]
        gradients[:, size + column] = np.bincount(design.prompt, compared, prompts)
    centre = np.eye(len(hessian))
    centre[:size, :size] -= 1 / size
    bread = centre @ np.linalg.inv(hessian)
    meat = gradients.T @ gradients * prompts / max(prompts - 1, 1)
    return np.sqrt(np.diag(bread @ meat @ bread.T))
