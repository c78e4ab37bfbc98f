"""Intervals that hold with few prompts and where somebody won everything.

Three parts, each for a reason that docs/decisions/0018 measures:
- Firth's fit, because the maximum likelihood is infinite where a contestant won everything;
- the sandwich over prompts (White, 1982; Liang and Zeger, 1986), because the battles of a prompt
  share its answers, with Student's t for as many prompts as a contestant's battles are worth;
- the bounds where the likelihood has fallen so far (a signed root, not a symmetric margin), because
  near a clean sweep the estimate is skewed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit, log_expit, stdtrit

from arena_assets.ratings.comparisons import Comparisons
from arena_assets.ratings.fitting import (
    Penalised,
    information,
    inverse_information,
    maximum_likelihood,
    penalised,
)

LEVEL = 0.95
# Two prompts say next to nothing about how far prompts differ: below that many, battles count as
# independent at least, and Student's t is that of two degrees of freedom.
_FEWEST_PROMPTS = 3
_STEPS = 50


@dataclass(frozen=True)
class Estimate:
    """Parameters (natural scale, strengths centred) with the bounds of their intervals."""

    parameters: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def estimate(comparisons: Comparisons, battles: int, simultaneous: bool = False) -> Estimate:
    """The maximum likelihood with 95 % intervals, each for itself or all of them at once.

    `battles` is how many were played: weights that are below 1 on average are shares, and are
    scaled to that number. Where there is no finite maximum, or it lies outside of what the
    intervals allow (a graded preference of 0.999999 is a clean sweep too), Firth's fit is reported.
    Simultaneous intervals are Bonferroni's over all contestants.
    """
    size, design = comparisons.size, comparisons.design
    scale = max(1.0, battles / (comparisons.won.sum() + comparisons.lost.sum()))
    won, lost = scale * comparisons.won, scale * comparisons.lost
    totals = won.sum(axis=0), lost.sum(axis=0)
    firth = penalised(design, size, *totals)
    tail = (1 - LEVEL) / 2 / (size if simultaneous else 1)
    lower, upper = _bounds(design, size, won, lost, firth, tail)
    maximum = maximum_likelihood(design, size, *totals, start=firth.parameters)
    if maximum is None or ((maximum < lower) | (maximum > upper)).any():
        return Estimate(firth.parameters, lower, upper)
    return Estimate(maximum, lower, upper)


def _bounds(
    design: csr_array,
    size: int,
    won: csr_array,
    lost: csr_array,
    firth: Penalised,
    tail: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Where the likelihood, with the pseudo-battles in it, has fallen by what t and prompts allow.

    The fall that would do for independent battles is multiplied by how much larger the sandwich
    variance is than theirs.
    """
    logit = design @ firth.parameters
    chance = expit(logit)
    half = firth.pseudo / 2
    first, second = won.sum(axis=0) + half, lost.sum(axis=0) + half
    weight = chance * (1 - chance)
    independent = inverse_information(design, size, (first + second) * weight)
    # a pseudo-battle is half won and half lost, and each is a prompt of its own
    gradients = (won * (1 - chance) - lost * chance) @ design
    own = information(design, half * ((1 - chance) ** 2 + chance**2))
    covariance = independent @ ((gradients.T @ gradients).toarray() + own) @ independent
    variance, model = np.diag(covariance), np.diag(independent)
    prompts = _effective_prompts(design, won + lost, firth.pseudo, weight)
    few = prompts < _FEWEST_PROMPTS
    variance = np.where(few, np.maximum(variance, model), variance)
    # Student's t with a degree of freedom less than there are prompts
    quantile = stdtrit(np.maximum(prompts, _FEWEST_PROMPTS) - 1, 1 - tail)
    profile = _Profile.along(design, independent, first, second, logit)
    fall = quantile**2 * variance / model / 2
    return tuple(
        firth.parameters + sign * profile.distance(fall, sign, np.sqrt(2 * fall * model))
        for sign in (-1, 1)
    )


def _effective_prompts(
    design: csr_array, played: csr_array, pseudo: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """How many equally informative prompts each parameter's information is worth.

    Kish's effective sample size, (sum of I)^2 / sum of I^2; the pseudo-battles count as a prompt.
    """
    squared = design**2
    by_prompt = (played * weight) @ squared
    extra = squared.T @ (pseudo * weight)
    total = by_prompt.sum(axis=0) + extra
    squares = (by_prompt**2).sum(axis=0) + extra**2
    return total**2 / np.maximum(squares, 1e-300)


@dataclass(frozen=True)
class _Profile:
    """The fall of the log-likelihood as one parameter moves and the others follow.

    The others follow along the column of the inverse information. A parameter's own comparisons
    count exactly, all others by their curvature. Entries are the non-zeros of the design.
    """

    parameter: np.ndarray
    slope: np.ndarray
    first: np.ndarray
    second: np.ndarray
    logit: np.ndarray
    rest: np.ndarray

    @classmethod
    def along(
        cls,
        design: csr_array,
        independent: np.ndarray,
        first: np.ndarray,
        second: np.ndarray,
        logit: np.ndarray,
    ) -> _Profile:
        entries = design.tocoo()
        row, parameter = entries.coords
        slope = np.zeros(len(row))
        # per entry (row, parameter): how far the row's logit moves with the parameter
        for column in range(design.shape[1]):
            held = parameter == column
            slope[held] = design[row[held]] @ (independent[:, column] / independent[column, column])
        weight = (first + second) * expit(logit) * expit(-logit)
        own = np.bincount(parameter, weight[row] * slope**2, len(independent))
        rest = np.maximum(1 / np.diag(independent) - own, 0)
        return cls(parameter, slope, first[row], second[row], logit[row], rest)

    def distance(self, fall: np.ndarray, sign: int, start: np.ndarray) -> np.ndarray:
        """How far each parameter moves until the likelihood has fallen by `fall`.

        Newton's method on a convex function: after its first step it comes down from the right.
        """
        size = len(fall)
        moved = start
        level = self.first * log_expit(self.logit) + self.second * log_expit(-self.logit)
        pull = self.first - (self.first + self.second) * expit(self.logit)
        for _ in range(_STEPS):
            shift = sign * moved[self.parameter] * self.slope
            now = self.logit + shift
            reached = self.first * log_expit(now) + self.second * log_expit(-now)
            fallen = np.bincount(self.parameter, level - reached + pull * shift, size)
            fallen += self.rest * moved**2 / 2
            here = self.first - (self.first + self.second) * expit(now)
            steepness = np.bincount(self.parameter, sign * self.slope * (pull - here), size)
            step = (fallen - fall) / (steepness + self.rest * moved)
            moved = moved - step
            if (np.abs(step) < 1e-9 * (1 + moved)).all():
                break
        return moved
