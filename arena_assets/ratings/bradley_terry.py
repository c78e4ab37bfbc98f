"""Bradley-Terry strengths on the Elo scale, with bootstrap intervals over prompts.

Bradley and Terry (1952): P(i beats j) = 1 / (1 + exp(s_j - s_i)). A tie counts as half a win for
each side. The Elo scale multiplies strengths by 400 / ln 10. Battles of one prompt are not
independent (the same answers meet again and again), so the bootstrap draws prompts, not battles.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
from scipy.sparse.csgraph import connected_components

ELO = 400 / np.log(10)
# Precision of a normal prior on every strength: a contestant that won everything stays finite, and
# with the battles of a round the ratings move by less than a point.
PRIOR_PRECISION = 0.01
_NEWTON_STEPS, _TOLERANCE = 50, 1e-9


class UnratableBattles(ValueError):
    """Battles that give no common scale; the message names the contestants."""


@dataclass(frozen=True)
class Anchor:
    """The contestant that fixes the scale, and the rating it holds."""

    contestant: str
    rating: float


def rate(battles: pa.Table, anchor: Anchor, resamples: int, seed: int) -> pa.Table:
    """Ratings of all contestants, best first.

    `battles` has prompt_id, contestant_1, contestant_2 and winner (null for a tie), only battles
    that count. The result has contestant, rating (median of the resamples), lower and upper (2.5
    and 97.5 %), rank, battles, wins, losses and ties.

    Every resample is centred on the mean of all strengths, and the whole scale is then shifted once
    so that the anchor's rating is the anchor value. So the anchor has an interval too, and no
    contestant's interval carries the anchor's noise. Raises UnratableBattles for an unknown anchor,
    a winner who did not fight, or groups that never met.
    """
    names, cells = _count(battles)
    if anchor.contestant not in names:
        raise UnratableBattles(
            f"the anchor {anchor.contestant!r} has no battles (contestants: {', '.join(names)})"
        )
    _require_connection(names, cells)
    strengths = bootstrap_strengths(len(names), cells, resamples, seed)
    ratings = ELO * (strengths - strengths.mean(axis=1, keepdims=True))
    lower, median, upper = np.quantile(ratings, [0.025, 0.5, 0.975], axis=0)
    shift = anchor.rating - median[names.index(anchor.contestant)]
    results = _results(len(names), cells)
    order = sorted(range(len(names)), key=lambda i: (-median[i], names[i]))
    return pa.Table.from_pylist(
        [
            {
                "contestant": names[i],
                "rating": float(median[i] + shift),
                "lower": float(lower[i] + shift),
                "upper": float(upper[i] + shift),
                # only those count as better whose whole interval lies above
                "rank": 1 + int((lower > upper[i]).sum()),
                "battles": int(results[i].sum()),
                "wins": int(results[i, 0]),
                "losses": int(results[i, 1]),
                "ties": int(results[i, 2]),
            }
            for i in order
        ]
    )


@dataclass(frozen=True)
class Cells:
    """Battles counted by (prompt, first, second): wins of each side and ties."""

    prompt: np.ndarray
    first: np.ndarray
    second: np.ndarray
    wins_first: np.ndarray
    wins_second: np.ndarray
    ties: np.ndarray


def fit(points: np.ndarray, prior_precision: float = PRIOR_PRECISION) -> np.ndarray:
    """Strengths (natural scale, sum zero) from points[i, j]: i's wins over j, a tie half.

    Newton's method on the log-likelihood with a normal prior, which is concave: there is one
    maximum.
    """
    played = points + points.T
    won = points.sum(axis=1)
    strength = np.zeros(len(points))
    for _ in range(_NEWTON_STEPS):
        expected = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
        gradient = won - (played * expected).sum(axis=1) - prior_precision * strength
        information = played * expected * expected.T
        hessian = np.diag(information.sum(axis=1) + prior_precision) - information
        step = np.linalg.solve(hessian, gradient)
        # a full step may overshoot where almost everything is won or lost
        strength = strength + step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-300))
        if np.abs(step).max() < _TOLERANCE:
            break
    return strength - strength.mean()


def bootstrap_strengths(contestants: int, cells: Cells, resamples: int, seed: int) -> np.ndarray:
    """Strengths of draws of prompts with replacement: (resamples, contestants)."""
    generator = np.random.default_rng(seed)
    prompts = int(cells.prompt.max()) + 1
    to_first = cells.wins_first + 0.5 * cells.ties
    to_second = cells.wins_second + 0.5 * cells.ties
    strengths = np.empty((resamples, contestants))
    for resample in range(resamples):
        drawn = generator.multinomial(prompts, np.full(prompts, 1 / prompts))[cells.prompt]
        points = np.zeros((contestants, contestants))
        np.add.at(points, (cells.first, cells.second), drawn * to_first)
        np.add.at(points, (cells.second, cells.first), drawn * to_second)
        strengths[resample] = fit(points)
    return strengths


def _count(battles: pa.Table) -> tuple[list[str], Cells]:
    """The contestants in alphabetical order, and their battles counted by prompt and pair."""
    if not battles.num_rows:
        raise UnratableBattles("there are no decided battles or ties to rate")
    with duckdb.connect() as connection:
        connection.register("battles", battles)
        strangers = connection.execute(
            """
            select prompt_id, contestant_1, contestant_2, winner from battles
            where winner not in (contestant_1, contestant_2) limit 1
            """
        ).fetchone()
        if strangers:
            prompt, one, two, winner = strangers
            raise UnratableBattles(
                f"prompt {prompt}: {winner!r} won a battle of {one!r} and {two!r}; "
                "the winner has to be one of them, or null for a tie"
            )
        names = [
            name
            for (name,) in connection.execute(
                "select contestant_1 from battles union select contestant_2 from battles order by 1"
            ).fetchall()
        ]
        connection.register("contestants", pa.table({"name": names, "number": range(len(names))}))
        counted = connection.execute(
            """
            select dense_rank() over (order by battles.prompt_id) - 1 as prompt,
                   one.number as first, two.number as second,
                   count(*) filter (where battles.winner = battles.contestant_1) as wins_first,
                   count(*) filter (where battles.winner = battles.contestant_2) as wins_second,
                   count(*) filter (where battles.winner is null) as ties
            from battles
            join contestants as one on one.name = battles.contestant_1
            join contestants as two on two.name = battles.contestant_2
            group by battles.prompt_id, one.number, two.number
            order by 1, 2, 3
            """
        ).fetchnumpy()
    return names, Cells(**counted)


def _require_connection(names: list[str], cells: Cells) -> None:
    met = np.zeros((len(names), len(names)))
    met[cells.first, cells.second] = 1
    count, group = connected_components(met, directed=False)
    if count > 1:
        groups = [
            ", ".join(n for n, g in zip(names, group, strict=True) if g == k) for k in range(count)
        ]
        raise UnratableBattles(
            "these groups never met, so they share no scale: " + " | ".join(groups)
        )


def _results(contestants: int, cells: Cells) -> np.ndarray:
    """Wins, losses and ties of every contestant; shape (contestants, 3)."""
    results = np.zeros((contestants, 3))
    np.add.at(results, (cells.first, 0), cells.wins_first)
    np.add.at(results, (cells.first, 1), cells.wins_second)
    np.add.at(results, (cells.second, 0), cells.wins_second)
    np.add.at(results, (cells.second, 1), cells.wins_first)
    for side in (cells.first, cells.second):
        np.add.at(results, (side, 2), cells.ties)
    return results
