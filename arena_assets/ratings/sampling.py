"""Which battles to play next: those that narrow the intervals between close ratings most.

One more battle of a pair adds information w = p (1 - p) along the difference d of its strengths,
and so shrinks the variance of any other difference c by (c' S d)^2 w / (1 + w d' S d), with S the
covariance of the strengths (the rank-one update of an inverse). The gain of a pair is that
shrinkage summed over all differences, each weighted by how undecided it still is.
"""

from __future__ import annotations

import numpy as np

from arena_assets.ratings.comparisons import design_of
from arena_assets.ratings.fitting import maximum_likelihood

# What each pair counts as having played before it met, half won and half lost: so there is a fit
# where a contestant won everything, or has not fought yet.
_BEFOREHAND = 0.01


def strengths(totals: np.ndarray) -> np.ndarray:
    """Strengths (natural scale, sum zero) from totals[i, j], what i got against j: shape (n,)."""
    size = len(totals)
    one, two = np.triu_indices(size, 1)
    half = _BEFOREHAND / 2
    found = maximum_likelihood(
        design_of(one, two, size), size, totals[one, two] + half, totals[two, one] + half
    )
    assert found is not None, "every pair has points on both sides"
    return found


def gains(totals: np.ndarray) -> np.ndarray:
    """What one more battle of each pair is worth: shape (n, n), symmetric, zero on the diagonal.

    `totals[i, j]` is what i got against j so far; pairs that never met are allowed.
    """
    size = len(totals)
    strength = strengths(totals)
    expected = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
    information = expected * expected.T
    played = totals + totals.T + _BEFOREHAND
    np.fill_diagonal(played, 0)
    weight = played * information
    # held at the mean strength, of which battles say nothing
    covariance = np.linalg.inv(np.diag(weight.sum(axis=1)) - weight + 1 / size)
    variances = np.diag(covariance)
    variance = variances[:, None] + variances[None, :] - 2 * covariance
    spread = np.sqrt(np.maximum(variance, 1e-12))
    # an undecided order is worth narrowing, a settled one is not
    undecided = np.exp(-0.5 * ((strength[:, None] - strength[None, :]) / spread) ** 2)
    np.fill_diagonal(undecided, 0)
    laplacian = np.diag(undecided.sum(axis=1)) - undecided
    shrinkage = covariance @ laplacian @ covariance
    held = np.diag(shrinkage)
    along = held[:, None] + held[None, :] - 2 * shrinkage
    gain = information * along / (1 + information * variance)
    np.fill_diagonal(gain, 0)
    return np.maximum(gain, 0)


def choose_pairs(
    totals: np.ndarray, left: np.ndarray, battles: int, generator: np.random.Generator
) -> np.ndarray:
    """How many of the next `battles` each pair i < j gets: shape (n, n), upper triangle.

    `left[i, j]` is how many battles of the pair are still unplayed. Draws pairs in proportion to
    their gains, so that a batch does not pile up on one pair.
    """
    one, two = np.triu_indices(len(totals), 1)
    unplayed = left[one, two].astype(np.int64)
    chosen = np.zeros(len(one), np.int64)
    gain = gains(totals)[one, two]
    wanted = min(battles, int(unplayed.sum()))
    while (missing := wanted - int(chosen.sum())) > 0:
        weight = np.where(chosen < unplayed, gain, 0)
        if not weight.sum() > 0:
            weight = (unplayed - chosen).astype(float)
        chosen += generator.multinomial(missing, weight / weight.sum())
        chosen = np.minimum(chosen, unplayed)
    result = np.zeros_like(left, dtype=np.int64)
    result[one, two] = chosen
    return result
