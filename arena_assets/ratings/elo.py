"""Online Elo: ratings that follow the order of battles, for those who compare with it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from arena_assets.ratings.bradley_terry import Anchor, ratings_table, require_anchor
from arena_assets.ratings.comparisons import count

K_FACTOR, SCALE = 4.0, 400.0  # LMArena's K, and the scale of all our ratings


def rate_online(battles: pa.Table, anchor: Anchor, k_factor: float = K_FACTOR) -> pa.Table:
    """Elo ratings after all battles in the order of their rows, as of evalica.elo.

    The result has the columns of `rate`; there are no intervals, so lower and upper equal the
    rating. A graded preference counts as a win from above one half. Weights are not used.
    """
    import evalica

    counts = count(battles)
    require_anchor(counts, anchor)
    words = np.array([evalica.Winner.Y, evalica.Winner.Draw, evalica.Winner.X], dtype=object)
    winners = words[np.sign(battles["score"].to_numpy() - 0.5).astype(int) + 1]
    scores = evalica.elo(
        battles["contestant_1"].to_pylist(),
        battles["contestant_2"].to_pylist(),
        winners.tolist(),
        k=k_factor,
        scale=SCALE,
    ).scores
    estimate = np.array([scores[name] for name in counts.contestants])
    return ratings_table(counts, estimate, estimate, estimate, anchor)
