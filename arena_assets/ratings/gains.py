"""What one contestant has gained over another in rating points, also over several seeds.

Two ratings whose intervals overlap may still lie apart: both rest on the same prompts. The interval
here is that of the difference, by the sandwich over families of prompts (see `intervals`), and over
seeds of training as in `paired`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.special import expit

from arena_assets.ratings.bradley_terry import ELO
from arena_assets.ratings.comparisons import Counts, count, positions, witnesses
from arena_assets.ratings.fitting import inverse_information, penalised
from arena_assets.ratings.intervals import estimate
from arena_assets.ratings.paired import Paired, Spread, added, tested


@dataclass(frozen=True)
class Gain:
    """A difference of ratings, in points, with what it rests on by family of prompts.

    `influence` is how far each family moves the difference (its part of the sandwich), `battles`
    how many of the two's battles are on its prompts.
    """

    points: float
    influence: Mapping[str, float]
    battles: Mapping[str, float]
    prompts: int


def gains(battles: pa.Table, contestants: Sequence[str], base: str) -> dict[str, Gain]:
    """The gain over `base` of those contestants that fought at all; one fit for all of them.

    That of `base` itself is 0 whatever was drawn: a seed whose base model fights on counts so.
    `battles` has the columns of ratings.battles.BATTLES. Raises UnratableBattles as `rate` does.
    """
    counts = count(battles)
    names = counts.contestants
    if base not in names:
        return {}
    parameters, influence = _influence(counts)
    _, families = positions(witnesses(battles))
    found = {}
    for name in contestants:
        if name in names:
            one, two = names.index(name), names.index(base)
            moved = influence[:, one] - influence[:, two]
            played = _played(counts, one) + _played(counts, two)
            found[name] = Gain(
                float(ELO * (parameters[one] - parameters[two])),
                dict(zip(families, (ELO * moved).tolist(), strict=True)),
                dict(zip(families, played.tolist(), strict=True)),
                len(set(battles["prompt_id"].to_pylist())),
            )
    return found


def pooled(found: Sequence[Gain], level: float = 0.95) -> Paired:
    """The mean gain over seeds with its interval; ValueError without any."""
    if not found:
        raise ValueError("no gain to pool")
    names = sorted({name for gain in found for name in gain.influence})
    moved = np.array(
        [sum(gain.influence.get(name, 0.0) for gain in found) / len(found) for name in names]
    )
    played = np.array([sum(gain.battles.get(name, 0.0) for gain in found) for name in names])
    size, points = len(names), [gain.points for gain in found]
    mean = float(np.mean(points))
    if size < 2:
        spread = Spread(mean, np.inf, 1.0)
    else:
        worth = played.sum() ** 2 / max(float((played**2).sum()), 1e-300)
        variance = float((moved**2).sum()) * size / (size - 1)
        spread = Spread(mean, variance, max(worth - 1, 1.0))
    if len(found) > 1:
        spread = added(spread, float(np.var(points, ddof=1)) / len(found), len(found) - 1)
    prompts = max(gain.prompts for gain in found)
    return tested(mean, spread, level, (prompts, size, len(found)))


def _influence(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Strengths (natural scale), and how far each family's battles move them: (families, size)."""
    comparisons, size = counts.comparisons, counts.comparisons.size
    design = comparisons.design
    scale = max(1.0, counts.battles / (comparisons.won.sum() + comparisons.lost.sum()))
    won, lost = scale * comparisons.won, scale * comparisons.lost
    totals = won.sum(axis=0), lost.sum(axis=0)
    firth = penalised(design, size, *totals)
    chance = expit(design @ firth.parameters)
    weight = (totals[0] + totals[1] + firth.pseudo) * chance * (1 - chance)
    gradients = (won * (1 - chance) - lost * chance) @ design
    moved = np.asarray(gradients @ inverse_information(design, size, weight))
    return estimate(comparisons, counts.battles).parameters, moved


def _played(counts: Counts, contestant: int) -> np.ndarray:
    """How much a contestant fought on each family."""
    own = (counts.first == contestant) | (counts.second == contestant)
    comparisons = counts.comparisons
    points = (comparisons.won + comparisons.lost)[:, np.flatnonzero(own)]
    return np.asarray(points.sum(axis=1)).ravel()
