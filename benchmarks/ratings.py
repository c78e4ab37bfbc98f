"""Ratings of a million battles, ours beside evalica's: `python benchmarks/ratings.py [BATTLES]`.

Both rate the same simulated battles of 100 contestants with 100 bootstrap resamples. evalica draws
battles, we draw prompts, so the intervals differ; the point estimates may not.
"""

from __future__ import annotations

import sys
import time

import evalica
import numpy as np
import pyarrow as pa

from arena_assets.ratings.bradley_terry import Anchor, rate

CONTESTANTS, RESAMPLES = 100, 100


def simulate(battles: int) -> pa.Table:
    """Random pairs on random prompts (200 battles each), won by Bradley-Terry probabilities."""
    draw = np.random.default_rng(0)
    names = np.array([f"c{number:03d}" for number in range(CONTESTANTS)])
    strengths = draw.normal(0, 1, CONTESTANTS)
    one = draw.integers(CONTESTANTS, size=battles)
    two = (one + draw.integers(1, CONTESTANTS, size=battles)) % CONTESTANTS
    first_wins = draw.random(battles) < 1 / (1 + np.exp(strengths[two] - strengths[one]))
    return pa.table(
        {
            "prompt_id": [f"p{n}" for n in draw.integers(max(1, battles // 200), size=battles)],
            "contestant_1": names[one],
            "contestant_2": names[two],
            "winner": names[np.where(first_wins, one, two)],
        }
    )


def main() -> None:
    table = simulate(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
    started = time.perf_counter()
    ours = rate(table, Anchor("c000", 1000), RESAMPLES, 0)
    seconds = time.perf_counter() - started
    frame = table.to_pandas()
    winners = np.where(frame.winner == frame.contestant_1, evalica.Winner.X, evalica.Winner.Y)
    started = time.perf_counter()
    theirs = evalica.bradley_terry(frame.contestant_1, frame.contestant_2, list(winners)).scores
    point = time.perf_counter() - started
    scores = np.log([theirs[name] for name in ours["contestant"].to_pylist()]) * 400 / np.log(10)
    ratings = ours["rating"].to_numpy()
    apart = np.abs((ratings - ratings.mean()) - (scores - scores.mean())).max()
    print(f"{table.num_rows:,} battles of {CONTESTANTS} contestants")
    print(f"ours, estimate and {RESAMPLES} resamples:  {seconds:6.2f} s")
    print(f"evalica, estimate only:           {point:6.2f} s ({point / seconds:.2f} x ours)")
    print(f"largest difference of estimates:  {apart:6.2f} rating points")


if __name__ == "__main__":
    main()
