"""The paper's intervals, as an option: ratings of prompts drawn with replacement."""

from __future__ import annotations

import numpy as np

from arena_assets.ratings.comparisons import Comparisons, UnratableBattles
from arena_assets.ratings.fitting import maximum_likelihood, penalised


def bootstrap(comparisons: Comparisons, resamples: int, seed: int) -> np.ndarray:
    """Parameters (natural scale, centred) of each draw: shape (resamples, parameters).

    Every draw holds the pseudo-battles of Firth's fit of all battles, so that a contestant stays
    finite who won everything in it. Raises UnratableBattles where no draw differs: then the
    bootstrap has nothing to say.
    """
    design, size = comparisons.design, comparisons.size
    won, lost = comparisons.won.T.tocsr(), comparisons.lost.T.tocsr()
    firth = penalised(design, size, won.sum(axis=1), lost.sum(axis=1))
    half = firth.pseudo / 2
    prompts = won.shape[1]
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)
    found = []
    for times in drawn.astype(float):
        fitted = maximum_likelihood(
            design, size, won @ times + half, lost @ times + half, firth.parameters
        )
        if fitted is None:
            raise UnratableBattles("a draw of prompts has no finite fit; use the sandwich")
        found.append(fitted)
    strengths = np.array(found)
    if np.ptp(strengths[:, :size], axis=0).min() < 1e-9:
        raise UnratableBattles(
            f"the bootstrap of {prompts} prompt{'s' * (prompts != 1)} draws the same result every "
            "time, so it gives no interval; use the sandwich"
        )
    return strengths
