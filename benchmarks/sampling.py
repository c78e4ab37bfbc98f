"""Fewer judge calls for the same ranking: `python benchmarks/sampling.py`.

Simulated arenas of 32 models on 100 prompts: all pairs, against a quarter of the battles chosen
actively and a quarter drawn evenly. Prints the Spearman correlation with the true order.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from arena_assets.ratings.sampling import choose_pairs, strengths

MODELS, PROMPTS, ARENAS, SHARE, BATCHES = 32, 100, 20, 0.25, 20


def play(wins: np.ndarray, chosen: np.ndarray, played: np.ndarray, totals: np.ndarray) -> None:
    """Reveal the next battles of every chosen pair: the recorded outcomes in their order."""
    for one, two in zip(*np.nonzero(chosen), strict=True):
        begin = played[one, two]
        won = wins[one, two, begin : begin + chosen[one, two]].sum()
        totals[one, two] += won
        totals[two, one] += chosen[one, two] - won
        played[one, two] += chosen[one, two]


def sample(wins: np.ndarray, budget: int, active: bool, generator: np.random.Generator):
    """Points after `budget` battles: one even batch first, then batches as chosen."""
    played = np.zeros((MODELS, MODELS), np.int64)
    totals = np.zeros((MODELS, MODELS))
    upper = np.triu(np.full((MODELS, MODELS), PROMPTS), 1)
    for batch in range(BATCHES):
        size = budget // BATCHES
        if active and batch:
            chosen = choose_pairs(totals, upper - played, size, generator)
        else:
            pairs = np.triu_indices(MODELS, 1)
            counts = generator.multinomial(size, np.full(len(pairs[0]), 1 / len(pairs[0])))
            chosen = np.zeros((MODELS, MODELS), np.int64)
            chosen[pairs] = np.minimum(counts, (upper - played)[pairs])
        play(wins, chosen, played, totals)
    return totals, int(played.sum())


def main() -> None:
    found: dict[str, list[float]] = {"all pairs": [], "active": [], "even": []}
    pairs = MODELS * (MODELS - 1) // 2
    budget = int(SHARE * pairs * PROMPTS)
    for arena in range(ARENAS):
        generator = np.random.default_rng(arena)
        truth = np.sort(generator.normal(0, 1, MODELS))
        chance = 1 / (1 + np.exp(truth[None, :] - truth[:, None]))
        wins = generator.random((MODELS, MODELS, PROMPTS)) < chance[..., None]
        wins[np.tril_indices(MODELS)] = False
        full = wins.sum(axis=2).astype(float)
        lower = np.tril_indices(MODELS, -1)
        full[lower] = (PROMPTS - full.T)[lower]
        found["all pairs"].append(spearmanr(strengths(full), truth).statistic)
        for name in ("active", "even"):
            totals, played = sample(wins, budget, name == "active", generator)
            assert played <= budget
            found[name].append(spearmanr(strengths(totals), truth).statistic)
    print(f"{ARENAS} arenas of {MODELS} models, {pairs} pairs x {PROMPTS} prompts")
    for name, values in found.items():
        share = 1 if name == "all pairs" else SHARE
        print(f"{name:<10} {share:4.0%} of the battles: Spearman {np.mean(values):.4f}")


if __name__ == "__main__":
    main()
