"""Judging a part of the battles: each batch is chosen by what the ratings so far leave open."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from arena_assets.config.ratings import ActiveSampling
from arena_assets.judging.games import Games, Seat
from arena_assets.ratings.sampling import choose_pairs

_POINTS = """
    select contestant_a, contestant_b,
           sum(0.25 + 0.25 * sign(score_a - score_b))::double as points_a,
           sum(0.25 - 0.25 * sign(score_a - score_b))::double as points_b
    from rows where status = 'ok' group by contestant_a, contestant_b
"""


def judge_actively(
    open_games: Callable[[pa.Table], Games],
    battles: pa.Table,
    settings: ActiveSampling,
    seed: int,
    log: Callable[[str], None],
) -> tuple[pa.Table, int]:
    """The share of `battles` that was chosen and judged, and how many games were judged anew.

    The first batch is spread evenly; each next one goes where it narrows intervals between close
    ratings most. Which prompts a pair meets on is random and follows the seed, so that a second run
    asks for the same games.
    """
    names = sorted(
        {*battles["first"].unique().to_pylist(), *battles["second"].unique().to_pylist()}
    )
    position = {name: number for number, name in enumerate(names)}
    waiting = _shuffled_by_pair(battles, position, seed)
    generator = np.random.default_rng(seed)
    totals = np.zeros((len(names), len(names)))
    chosen_so_far: list[np.ndarray] = []
    judged, budget = 0, settings.budget(battles.num_rows)
    if not budget:
        return battles.slice(0, 0), 0
    size = -(-budget // settings.batches)
    for start in range(0, budget, size):
        left = np.zeros(totals.shape, np.int64)
        for pair, unplayed in waiting.items():
            left[pair] = len(unplayed)
        wanted = min(size, budget - start)
        chosen = choose_pairs(totals, left, wanted, generator)
        now = []
        for pair in zip(*np.nonzero(chosen), strict=True):
            now.append(waiting[pair][: chosen[pair]])
            waiting[pair] = waiting[pair][chosen[pair] :]
        indices = np.sort(np.concatenate(now))
        games = open_games(battles.take(indices))
        judged += games.judge_missing(log)
        _add_points(totals, games, position)
        chosen_so_far.append(indices)
        log(f"{games.judge.name}: {start + wanted} of {battles.num_rows} battles chosen")
    return battles.take(np.sort(np.concatenate(chosen_so_far))), judged


def _shuffled_by_pair(
    battles: pa.Table, position: dict[str, int], seed: int
) -> dict[tuple[int, int], np.ndarray]:
    """Row numbers of each pair's battles, in a random order that the seed decides."""
    first = np.array([position[name] for name in battles["first"].to_pylist()])
    second = np.array([position[name] for name in battles["second"].to_pylist()])
    order = np.random.default_rng(seed).permutation(battles.num_rows)
    pairs = np.stack([first, second], axis=1)[order]
    return {
        (int(a), int(b)): order[(pairs[:, 0] == a) & (pairs[:, 1] == b)]
        for a, b in np.unique(pairs, axis=0)
    }


def _add_points(totals: np.ndarray, games: Games, position: dict[str, int]) -> None:
    """Half a point a game: good enough to choose by; ratings come from whole battles."""
    parts = list(games.rows("", Seat("deciding")))
    games.connection.register("rows", pa.Table.from_batches(parts))
    for a, b, points_a, points_b in games.connection.sql(_POINTS).fetchall():
        totals[position[a], position[b]] += points_a
        totals[position[b], position[a]] += points_b
