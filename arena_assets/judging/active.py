"""Judging a part of the battles: each batch is chosen by what the ratings so far leave open."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from arena_assets.config import ActiveSampling
from arena_assets.judging.games import Game, Judge, judge_games
from arena_assets.ratings.sampling import choose_pairs
from arena_assets.store import Store, content_key


def judge_actively(
    judge: Judge,
    games: Sequence[Game],
    store: Store,
    settings: ActiveSampling,
    seed: int,
    batch: int,
    log: Callable[[str], None],
) -> tuple[list[dict[str, Any]], int]:
    """Rows of the judgments table for a share of the battles, and how many games were judged anew.

    `games` are both games of every pair, as of pair_up. The first batch is spread evenly; each next
    one goes where it narrows the intervals between close ratings most. Which prompts a pair meets
    on is random and follows the seed, so that a second run asks for the same games.
    """
    battles = [list(both) for _, both in itertools.groupby(games, key=_battle)]
    names = sorted({game.contestant_a for game in games})
    position = {name: number for number, name in enumerate(names)}
    waiting: dict[tuple[int, int], list[list[Game]]] = {}
    for battle in sorted(battles, key=lambda both: content_key(seed, _battle(both[0]))):
        pair = position[battle[0].contestant_a], position[battle[0].contestant_b]
        waiting.setdefault(pair, []).append(battle)
    generator = np.random.default_rng(seed)
    totals = np.zeros((len(names), len(names)))
    rows: list[dict[str, Any]] = []
    judged, budget = 0, round(settings.share * len(battles))
    size = -(-budget // settings.batches)
    for start in range(0, budget, size):
        left = np.zeros(totals.shape, np.int64)
        for pair, unplayed in waiting.items():
            left[pair] = len(unplayed)
        wanted = min(size, budget - start)
        chosen = choose_pairs(totals, left, wanted, generator)
        now: list[Game] = []
        for pair in zip(*np.nonzero(chosen), strict=True):
            taken, waiting[pair] = waiting[pair][: chosen[pair]], waiting[pair][chosen[pair] :]
            now += itertools.chain.from_iterable(taken)
        found, anew = judge_games(judge, now, store, batch, log)
        for row in found:
            _add_points(totals, row, position)
        rows, judged = rows + found, judged + anew
        log(f"{judge.name}: {start + wanted} of {len(battles)} battles chosen")
    return rows, judged


def _battle(game: Game) -> tuple[str, str, str]:
    return game.prompt_id, *sorted((game.contestant_a, game.contestant_b))


def _add_points(totals: np.ndarray, row: dict[str, Any], position: dict[str, int]) -> None:
    """Half a point a game: good enough to choose by; ratings come from whole battles."""
    if row["status"] != "ok":
        return
    a, b = position[row["contestant_a"]], position[row["contestant_b"]]
    share = 0.5 + 0.5 * np.sign(row["score_a"] - row["score_b"])
    totals[a, b] += 0.5 * share
    totals[b, a] += 0.5 * (1 - share)
