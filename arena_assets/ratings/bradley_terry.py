"""Bradley-Terry ratings on the Elo scale, with intervals that know about prompts.

Bradley and Terry (1952): P(i beats j) = 1 / (1 + exp(s_j - s_i)). A tie counts as half a win for
each side, a graded preference as its share. The Elo scale multiplies strengths by 400 / ln 10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.special import expit

from arena_assets.ratings.comparisons import Comparisons, Counts, UnratableBattles, count
from arena_assets.ratings.fitting import penalised
from arena_assets.ratings.intervals import estimate
from arena_assets.ratings.resampling import bootstrap

ELO = 400 / np.log(10)
INTERVALS = ("sandwich", "bootstrap")


@dataclass(frozen=True)
class Anchor:
    """The contestant that fixes the scale, and the rating it holds."""

    contestant: str
    rating: float


@dataclass(frozen=True)
class Intervals:
    """How 95 % intervals are made: by the sandwich over prompts, or by drawing prompts.

    `simultaneous` makes the sandwich's hold all at once; `resamples` and `seed` are the
    bootstrap's.
    """

    kind: str = "sandwich"
    simultaneous: bool = False
    resamples: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in INTERVALS:
            raise ValueError(f"no interval {self.kind!r} (there: {', '.join(INTERVALS)})")
        if self.simultaneous and self.kind == "bootstrap":
            raise ValueError("simultaneous intervals are made by the sandwich, not the bootstrap")


SANDWICH = Intervals()


def rate(battles: pa.Table, anchor: Anchor, intervals: Intervals = SANDWICH) -> pa.Table:
    """Ratings of all contestants, best first.

    `battles` has the columns of ratings.battles.BATTLES. The result has contestant, rating, lower
    and upper (95 %), rank, battles, wins, losses and ties. With the sandwich the rating is the
    maximum likelihood (Firth's penalised one where that is infinite, see ratings.intervals); with
    the bootstrap it is the median of the resamples and the interval their 2.5 and 97.5 %
    quantiles, as in the paper.

    Strengths are centred on the mean of all contestants, and the whole scale is then shifted once
    so that the anchor's rating is the anchor value. So the anchor has an interval too, and no
    contestant's interval carries the anchor's noise. Raises UnratableBattles for an unknown anchor
    or groups that never met.
    """
    counts = count(battles)
    require_anchor(counts, anchor)
    lower, rating, upper = bounds(counts, counts.comparisons, intervals)
    return ratings_table(counts, lower, rating, upper, anchor)


def strengths(battles: pa.Table) -> dict[str, float]:
    """Strengths by contestant on the natural scale, with mean 0; finite also after a clean sweep.

    For a handful of contestants and battles, where nobody asks for intervals: Firth's penalised fit
    (Firth, 1993). Raises UnratableBattles for groups that never met.
    """
    counts = count(battles)
    compared = counts.comparisons
    totals = compared.won.sum(axis=0), compared.lost.sum(axis=0)
    fitted = penalised(compared.design, compared.size, *totals).parameters
    return dict(zip(counts.contestants, fitted.tolist(), strict=True))


def bounds(
    counts: Counts, comparisons: Comparisons, intervals: Intervals
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower bound, estimate and upper bound of every parameter, in Elo points."""
    try:
        if intervals.kind == "bootstrap":
            draws = bootstrap(comparisons, intervals.resamples, intervals.seed)
            return tuple(ELO * np.quantile(draws, [0.025, 0.5, 0.975], axis=0))
        found = estimate(comparisons, counts.battles, intervals.simultaneous)
        return ELO * found.lower, ELO * found.parameters, ELO * found.upper
    except np.linalg.LinAlgError:
        raise UnratableBattles("the weights lie too far apart to fit them together") from None


def require_anchor(counts: Counts, anchor: Anchor) -> None:
    """UnratableBattles where the anchor did not fight."""
    if anchor.contestant not in counts.contestants:
        there = ", ".join(counts.contestants)
        raise UnratableBattles(
            f"the anchor {anchor.contestant!r} has no battles (contestants: {there})"
        )


def pair_table(battles: pa.Table) -> pa.Table:
    """Every ordered pair that met: contestant, opponent, points, battles, win_rate, expected.

    `win_rate` is the observed share of points (weights included), `expected` that of the fit.
    """
    counts = count(battles)
    strength = estimate(counts.comparisons, counts.battles).parameters
    won, lost = (side.sum(axis=0) for side in (counts.comparisons.won, counts.comparisons.lost))
    names = np.array(counts.contestants, dtype=object)
    one = np.concatenate([counts.first, counts.second])
    two = np.concatenate([counts.second, counts.first])
    points = np.concatenate([won, lost])
    played = points + np.concatenate([lost, won])
    return pa.table(
        {
            "contestant": pa.array(names[one], pa.string()),
            "opponent": pa.array(names[two], pa.string()),
            "points": points,
            "battles": played,
            "win_rate": points / played,
            "expected": expit(strength[one] - strength[two]),
        }
    )


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
