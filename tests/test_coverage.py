"""How often 95 % intervals hold the truth: few and many prompts, close and wide strengths.

`pytest -s tests/test_coverage.py` prints a part of the table on 200 simulated arenas a cell, with
`-m drill` the whole of it on 3,000 (the bootstrap on 100).
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from arena_assets.ratings.comparisons import Comparisons, design_of
from arena_assets.ratings.fitting import maximum_likelihood
from arena_assets.ratings.intervals import estimate
from arena_assets.ratings.resampling import bootstrap

# Strengths on the natural scale: 0.6 is 104 Elo points, 2.4 is 417, 4.8 is 834.
STRENGTHS = {
    "close": np.array([0.3, 0.1, -0.1, -0.3]),
    "middle": np.array([1.2, 0.4, -0.4, -1.2]),
    "wide": np.array([2.4, 0.8, -0.8, -2.4]),
}
# How much a contestant's strength varies by prompt: what makes the battles of a prompt dependent.
SHARED = {"independent": 0.0, "dependent": 1.5}


def simulated(strengths, prompts, shared, draw):
    """One battle of every pair on every prompt: (comparisons, battles)."""
    size = len(strengths)
    one, two = np.triu_indices(size, 1)
    own = strengths + shared * draw.standard_normal((prompts, size))
    won = draw.random((prompts, len(one))) < 1 / (1 + np.exp(own[:, two] - own[:, one]))
    points = csr_array(won.astype(float)), csr_array((~won).astype(float))
    return Comparisons(size, design_of(one, two, size), *points), won.size


def truth(strengths, shared):
    """The ratings that endless battles would give."""
    comparisons, _ = simulated(strengths, 100_000, shared, np.random.default_rng(1))
    totals = comparisons.won.sum(axis=0), comparisons.lost.sum(axis=0)
    return maximum_likelihood(comparisons.design, comparisons.size, *totals)


def drawn_bounds(comparisons, _, seed):
    draws = bootstrap(comparisons, 100, seed)
    return np.quantile(draws, [0.025, 0.975], axis=0)


def sandwich_bounds(comparisons, battles, _):
    found = estimate(comparisons, battles)
    assert (found.lower < found.parameters).all() and (found.parameters < found.upper).all()
    return found.lower, found.upper


def coverage(strengths, prompts, shared, arenas, bounds=sandwich_bounds, forget=False):
    """(share of intervals that hold the truth, share of arenas where somebody won everything)."""
    draw, true = np.random.default_rng(prompts), truth(strengths, shared)
    held, swept = [], []
    for seed in range(arenas):
        comparisons, battles = simulated(strengths, prompts, shared, draw)
        totals = [side.sum(axis=0) for side in (comparisons.won, comparisons.lost)]
        design, size = comparisons.design, comparisons.size
        swept.append(maximum_likelihood(design, size, *totals) is None)
        lower, upper = bounds(alone(comparisons) if forget else comparisons, battles, seed)
        held.append((lower <= true) & (true <= upper))
    return np.mean(held), np.mean(swept)


def alone(comparisons):
    """Every battle on a prompt of its own."""
    won, lost = comparisons.won.toarray(), comparisons.lost.toarray()
    prompts, pairs = won.shape
    column = np.tile(np.arange(pairs), prompts)

    def spread(points):
        rows = np.zeros((prompts * pairs, pairs))
        rows[np.arange(prompts * pairs), column] = points.ravel()
        return csr_array(rows)

    return Comparisons(comparisons.size, comparisons.design, spread(won), spread(lost))


CELLS = [(s, k, p) for s in STRENGTHS for k in SHARED for p in (10, 30, 120)]


@pytest.mark.slow
@pytest.mark.parametrize(("spread", "kind"), [("close", "dependent"), ("wide", "independent")])
@pytest.mark.parametrize("prompts", [10, 30, 120])
def test_intervals_hold_the_truth_in_95_of_100_cases(spread, kind, prompts):
    """200 arenas of 4 a cell have a noise of about 0.01, which the band leaves room for.

    Where many arenas have a clean sweep, 95 % cannot be met and may only be surpassed.
    """
    found, swept = coverage(STRENGTHS[spread], prompts, SHARED[kind], 200)
    print(f"\n{spread}, {kind}, {prompts} prompts: {found:.3f} ({swept:.1%} with a clean sweep)")
    assert 0.93 <= found <= (0.985 if swept > 0.1 else 0.97)


@pytest.mark.slow
def test_intervals_that_forget_the_prompts_are_too_narrow():
    """The more contestants, the more battles share a prompt's answers."""
    found, _ = coverage(np.linspace(0.8, -0.8, 8), 60, SHARED["dependent"], 50, forget=True)
    print(f"rows as their own prompts: {found:.3f}")
    assert found < 0.88


def apart(simultaneous, arenas):
    """The share of arenas of 10 equal contestants in which some pair lies apart."""
    draw, found = np.random.default_rng(0), 0
    for _ in range(arenas):
        bounds = estimate(*simulated(np.zeros(10), 60, 0.0, draw), simultaneous)
        found += bounds.lower.max() > bounds.upper.min()
    return found / arenas


@pytest.mark.slow
def test_simultaneous_intervals_seldom_part_equals():
    each, together = apart(False, 100), apart(True, 100)
    print(f"10 equal contestants, some pair apart: {each:.1%}, simultaneous {together:.1%}")
    assert each > 0.08 and together < 0.05


@pytest.mark.drill
@pytest.mark.timeout(3600)
def test_the_table_of_every_kind_of_interval():
    print("\nspread  battles      prompts  sandwich  bootstrap  clean sweeps")
    for spread, kind, prompts in CELLS:
        arena = STRENGTHS[spread], prompts, SHARED[kind]
        found, swept = coverage(*arena, 3000)
        drawn, _ = coverage(*arena, 100, drawn_bounds)
        print(f"{spread:7} {kind:12} {prompts:7} {found:9.3f} {drawn:10.3f} {swept:13.1%}")
        assert 0.94 <= found <= (0.985 if swept > 0.1 else 0.96), (spread, kind, prompts)
