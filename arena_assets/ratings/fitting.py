"""Maximum likelihood of the Bradley-Terry model, and Firth's penalised likelihood beside it.

All functions work on comparisons: `design` (comparisons x parameters, contestants first) and the
points that the first and the second contestant of each got.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit

# A gap between two contestants that met (natural scale; 4,300 Elo points) past which the maximum
# counts as infinite.
FARTHEST = 25.0
_STEPS, _TOLERANCE, _LONGEST_STEP = 100, 1e-9, 2.0
_ROWS_AT_ONCE = 2**16


@dataclass(frozen=True)
class Penalised:
    """Firth's fit: parameters, and the pseudo-battles (half won, half lost) that it adds a row."""

    parameters: np.ndarray
    pseudo: np.ndarray


def maximum_likelihood(
    design: csr_array, size: int, won: np.ndarray, lost: np.ndarray, start: np.ndarray | None = None
) -> np.ndarray | None:
    """Parameters (natural scale, strengths with sum zero) by Newton's method.

    None where there is no finite maximum: some contestants won everything against the others
    (Ford, 1957).
    """
    parameters = np.zeros(design.shape[1]) if start is None else start
    for _ in range(_STEPS):
        step = _newton_step(design, size, won, lost, parameters)
        parameters = parameters + step
        if np.abs(design @ parameters).max() > FARTHEST:
            return None
        if np.abs(step).max() < _TOLERANCE:
            return centred(parameters, size)
    return None


def penalised(design: csr_array, size: int, won: np.ndarray, lost: np.ndarray) -> Penalised:
    """The maximum of the likelihood times Jeffreys' prior (Firth, 1993), which is always finite.

    It equals the maximum likelihood with as many pseudo-battles added as there are free parameters,
    each half won and half lost, spread by leverage (Heinze and Schemper, 2002). With many battles
    they count for nothing.
    """
    parameters, played = np.zeros(design.shape[1]), won + lost
    for _ in range(_STEPS):
        chance = expit(design @ parameters)
        weight = played * chance * (1 - chance)
        inverse = np.linalg.inv(_grounded(information(design, weight), size))
        pseudo = weight * _leverage(design, inverse)
        step = _newton_step(design, size, won + pseudo / 2, lost + pseudo / 2, parameters)
        parameters = parameters + step
        if np.abs(step).max() < _TOLERANCE:
            break
    return Penalised(centred(parameters, size), pseudo)


def information(design: csr_array, weight: np.ndarray) -> np.ndarray:
    """Fisher's information: the sum over comparisons of weight times the row's outer product."""
    return (design.T @ (design * weight[:, None])).toarray()


def inverse_information(design: csr_array, size: int, weight: np.ndarray) -> np.ndarray:
    """The covariance of centred strengths and effects where every battle is independent."""
    inverse = np.linalg.inv(_grounded(information(design, weight), size))
    inverse[:size, :size] -= 1 / size
    return inverse


def centred(parameters: np.ndarray, size: int) -> np.ndarray:
    """Strengths with mean zero; effects as they are."""
    shift = np.zeros(len(parameters))
    shift[:size] = parameters[:size].mean()
    return parameters - shift


def _newton_step(
    design: csr_array, size: int, won: np.ndarray, lost: np.ndarray, parameters: np.ndarray
) -> np.ndarray:
    """One step on the log-likelihood, which is concave; cut where it would overshoot."""
    played, chance = won + lost, expit(design @ parameters)
    gradient = design.T @ (won - played * chance)
    hessian = _grounded(information(design, played * chance * (1 - chance)), size)
    step = np.linalg.solve(hessian, gradient)
    return step * min(1.0, _LONGEST_STEP / max(np.abs(step).max(), 1e-300))


def _grounded(matrix: np.ndarray, size: int) -> np.ndarray:
    """With what battles say nothing about held fast, so that it can be inverted.

    That is the mean strength, and the effect of a feature that never differs.
    """
    matrix[:size, :size] += 1 / size
    effects = np.arange(size, len(matrix))
    matrix[effects, effects] += 1e-9
    return matrix


def _leverage(design: csr_array, inverse: np.ndarray) -> np.ndarray:
    """row . inverse . row for every comparison."""
    parts = [
        (design[start : start + _ROWS_AT_ONCE] * (design[start : start + _ROWS_AT_ONCE] @ inverse))
        for start in range(0, design.shape[0], _ROWS_AT_ONCE)
    ]
    return np.concatenate([np.asarray(part.sum(axis=1)).ravel() for part in parts])
