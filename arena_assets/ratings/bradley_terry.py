"""Bradley-Terry strengths on the Elo scale, with intervals that know about prompts.

Bradley and Terry (1952): P(i beats j) = 1 / (1 + exp(s_j - s_i)). A tie counts as half a win for
each side, a graded preference as its share. The Elo scale multiplies strengths by 400 / ln 10.
Battles of one prompt are not independent (the same answers meet again and again), so the bootstrap
draws prompts, not battles, and the sandwich estimator sums over prompts before it squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

ELO = 400 / np.log(10)
# Precision of a normal prior on every strength: a contestant that won everything stays finite, and
# with the battles of a round the ratings move by less than a point.
PRIOR_PRECISION = 0.01
INTERVALS = ("bootstrap", "sandwich")
_NEWTON_STEPS, _TOLERANCE = 50, 1e-9
_BATTLES_AT_ONCE = 2**20  # counted in one piece
_CELLS_AT_ONCE = 2**24  # pairs x resamples held in memory


class UnratableBattles(ValueError):
    """Battles that give no common scale; the message names the contestants."""


@dataclass(frozen=True)
class Anchor:
    """The contestant that fixes the scale, and the rating it holds."""

    contestant: str
    rating: float


@dataclass(frozen=True)
class Counts:
    """Points by pair and prompt.

    `points[i * n + j, p]` is what contestant i got against j on prompt p (n contestants in
    alphabetical order); `results` holds battles won, lost and tied: shape (n, 3).
    """

    contestants: list[str]
    points: csr_array
    results: np.ndarray

    def totals(self) -> np.ndarray:
        """Points of each contestant against each other one: shape (n, n)."""
        size = len(self.contestants)
        return np.asarray(self.points.sum(axis=1)).reshape(size, size)


def rate(
    battles: pa.Table,
    anchor: Anchor,
    resamples: int = 100,
    seed: int = 0,
    interval: str = "bootstrap",
) -> pa.Table:
    """Ratings of all contestants, best first.

    `battles` has the columns of ratings.battles.BATTLES. The result has contestant, rating, lower
    and upper (95 %), rank, battles, wins, losses and ties. With `interval="bootstrap"` the rating
    is the median of the resamples and the interval their 2.5 and 97.5 % quantiles, as in the paper;
    with "sandwich" the rating is the maximum-likelihood estimate and the interval that of
    Huber's and White's estimator with prompts as clusters.

    Strengths are centred on the mean of all contestants, and the whole scale is then shifted once
    so that the anchor's rating is the anchor value. So the anchor has an interval too, and no
    contestant's interval carries the anchor's noise. Raises UnratableBattles for an unknown anchor
    or groups that never met.
    """
    counts = count(battles)
    require_anchor(counts, anchor)
    require_connection(counts)
    if interval == "bootstrap":
        ratings = ELO * bootstrap_strengths(counts, resamples, seed)
        lower, estimate, upper = np.quantile(ratings, [0.025, 0.5, 0.975], axis=0)
    elif interval == "sandwich":
        estimate = ELO * fit(counts.totals())
        margin = 1.959964 * ELO * sandwich_errors(counts)
        lower, upper = estimate - margin, estimate + margin
    else:
        raise ValueError(f"no interval {interval!r} (there: {', '.join(INTERVALS)})")
    return ratings_table(counts, lower, estimate, upper, anchor)


def count(battles: pa.Table) -> Counts:
    """Points by pair and prompt; UnratableBattles where there is nothing to count."""
    if not battles.num_rows:
        raise UnratableBattles("there are no decided battles or ties to rate")
    prompt, prompts = positions(battles["prompt_id"])
    first, second, names = sides(battles)
    score = battles["score"].to_numpy()
    weight = battles["weight"].to_numpy()
    size = len(names)
    points = csr_array((size * size, len(prompts)))
    for start in range(0, len(score), _BATTLES_AT_ONCE):
        part = slice(start, start + _BATTLES_AT_ONCE)
        one, two, share = first[part], second[part], score[part]
        earned = np.concatenate([weight[part] * share, weight[part] * (1 - share)])
        pair = np.concatenate([one * size + two, two * size + one])
        scored = earned > 0
        where = pair[scored], np.tile(prompt[part], 2)[scored]
        points = points + coo_array((earned[scored], where), shape=points.shape).tocsr()
    results = np.zeros((size, 3), np.int64)
    for side, own in ((first, score), (second, 1 - score)):
        for column, held in enumerate((own > 0.5, own < 0.5, own == 0.5)):
            results[:, column] += np.bincount(side[held], minlength=size)
    return Counts(names, points, results)


def fit(points: np.ndarray, prior_precision: float = PRIOR_PRECISION, start=None) -> np.ndarray:
    """Strengths (natural scale, sum zero) from points[..., i, j]: i's wins over j, a tie half.

    Newton's method on the log-likelihood with a normal prior, which is concave: there is one
    maximum. Leading dimensions are independent fits, made at once; `start` is where they begin.
    """
    played = points + points.swapaxes(-1, -2)
    won = points.sum(axis=-1)
    size = points.shape[-1]
    strength = np.zeros(points.shape[:-1]) if start is None else np.broadcast_to(start, won.shape)
    diagonal = np.arange(size)
    for _ in range(_NEWTON_STEPS):
        expected = 1 / (1 + np.exp(strength[..., None, :] - strength[..., :, None]))
        gradient = won - (played * expected).sum(axis=-1) - prior_precision * strength
        hessian = -played * expected * expected.swapaxes(-1, -2)
        hessian[..., diagonal, diagonal] -= hessian.sum(axis=-1) - prior_precision
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        # a full step may overshoot where almost everything is won or lost
        longest = np.abs(step).max(axis=-1, keepdims=True)
        strength = strength + step * np.minimum(1.0, 2.0 / np.maximum(longest, 1e-300))
        if longest.max() < _TOLERANCE:
            break
    return strength - strength.mean(axis=-1, keepdims=True)


def bootstrap_strengths(counts: Counts, resamples: int, seed: int) -> np.ndarray:
    """Strengths of draws of prompts with replacement: (resamples, contestants)."""
    generator = np.random.default_rng(seed)
    size, prompts = len(counts.contestants), counts.points.shape[1]
    start = fit(counts.totals())
    met = np.flatnonzero(np.diff(counts.points.indptr))  # pairs that have a point
    points = counts.points[met]
    strengths = []
    at_once = max(1, _CELLS_AT_ONCE // (size * size))
    for begin in range(0, resamples, at_once):
        batch = min(at_once, resamples - begin)
        drawn = generator.multinomial(prompts, np.full(prompts, 1 / prompts), size=batch)
        cells = np.zeros((batch, size * size))
        cells[:, met] = (points @ drawn.T.astype(float)).T
        strengths.append(fit(cells.reshape(batch, size, size), start=start))
    return np.concatenate(strengths)


def sandwich_errors(counts: Counts) -> np.ndarray:
    """Standard errors of the strengths (natural scale, sum zero), clustered by prompt.

    White (1982), with the sum over the battles of a prompt as one observation (Liang and Zeger,
    1986) and the correction for few clusters P / (P - 1).
    """
    size, prompts = len(counts.contestants), counts.points.shape[1]
    totals = counts.totals()
    strength = fit(totals)
    expected = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
    hessian = -(totals + totals.T) * expected * expected.T
    diagonal = np.arange(size)
    hessian[diagonal, diagonal] -= hessian.sum(axis=-1) - PRIOR_PRECISION
    # the gradient of prompt p is the sum over its points of (1 - P(i beats j)) (e_i - e_j)
    surprise = counts.points * (1 - expected.reshape(-1))[:, None]
    surprise = csr_array(surprise)
    pair = np.arange(size * size)
    direction = coo_array(
        (
            np.concatenate([np.ones(size * size), -np.ones(size * size)]),
            (np.concatenate([pair, pair]), np.concatenate([pair // size, pair % size])),
        ),
        shape=(size * size, size),
    ).tocsr()
    gradients = (surprise.T @ direction).toarray()
    centre = np.eye(size) - 1 / size
    bread = centre @ np.linalg.inv(hessian)
    meat = gradients.T @ gradients * prompts / max(prompts - 1, 1)
    return np.sqrt(np.diag(bread @ meat @ bread.T))


def require_anchor(counts: Counts, anchor: Anchor) -> None:
    """UnratableBattles where the anchor did not fight."""
    if anchor.contestant not in counts.contestants:
        there = ", ".join(counts.contestants)
        raise UnratableBattles(
            f"the anchor {anchor.contestant!r} has no battles (contestants: {there})"
        )


def require_connection(counts: Counts) -> None:
    """UnratableBattles where groups of contestants never met: they share no scale."""
    totals = counts.totals()
    groups, group = connected_components(totals + totals.T > 0, directed=False)
    if groups > 1:
        listed = [
            ", ".join(n for n, g in zip(counts.contestants, group, strict=True) if g == k)
            for k in range(groups)
        ]
        raise UnratableBattles(
            "these groups never met, so they share no scale: " + " | ".join(listed)
        )


def pair_table(battles: pa.Table) -> pa.Table:
    """Every ordered pair that met: contestant, opponent, points, battles, win_rate, expected.

    `win_rate` is the observed share of points (weights included), `expected` that of the fit.
    """
    counts = count(battles)
    totals = counts.totals()
    strength = fit(totals)
    expected = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
    played = totals + totals.T
    one, two = np.nonzero(played)
    names = np.array(counts.contestants)
    return pa.table(
        {
            "contestant": names[one],
            "opponent": names[two],
            "points": totals[one, two],
            "battles": played[one, two],
            "win_rate": totals[one, two] / played[one, two],
            "expected": expected[one, two],
        }
    )


def sides(battles: pa.Table) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Positions of the first and the second contestants among all, and the sorted names."""
    both = pa.chunked_array([*battles["contestant_1"].chunks, *battles["contestant_2"].chunks])
    found, names = positions(both)
    return found[: battles.num_rows], found[battles.num_rows :], names


def positions(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """The position of each value among the sorted distinct ones, and those."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    values = np.array(encoded.dictionary.to_pylist(), dtype=object)
    order = np.argsort(values)
    position = np.empty(len(values), np.int32)
    position[order] = np.arange(len(values))
    return position[encoded.indices.to_numpy()], values[order].tolist()


def ratings_table(
    counts: Counts, lower: np.ndarray, estimate: np.ndarray, upper: np.ndarray, anchor: Anchor
) -> pa.Table:
    """The result of `rate` from centred ratings and their bounds, shifted to the anchor."""
    names = counts.contestants
    shift = anchor.rating - estimate[names.index(anchor.contestant)]
    order = sorted(range(len(names)), key=lambda i: (-estimate[i], names[i]))
    return pa.Table.from_pylist(
        [
            {
                "contestant": names[i],
                "rating": float(estimate[i] + shift),
                "lower": float(lower[i] + shift),
                "upper": float(upper[i] + shift),
                # only those count as better whose whole interval lies above
                "rank": 1 + int((lower > upper[i]).sum()),
                "battles": int(counts.results[i].sum()),
                "wins": int(counts.results[i, 0]),
                "losses": int(counts.results[i, 1]),
                "ties": int(counts.results[i, 2]),
            }
            for i in order
        ]
    )
