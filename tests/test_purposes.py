"""What is shown of a split test set is shown by the prompts that report, wherever it is shown."""

from __future__ import annotations

import pytest
from registry_lake import fill, put_ratings, small_arena
from test_assets import SECOND

from arena_assets.flywheel.model_card import model_card
from arena_assets.flywheel.registry import resolve

BY_PURPOSE = {"select": 1311.0, "report": 1122.0, "held_out": 933.0}


@pytest.mark.parametrize("split", [True, False])
def test_a_model_card_shows_the_board_of_the_prompts_that_report(tmp_path, split):
    arena = small_arena(tmp_path)
    fill(arena)
    rows = []
    for purpose, rating in (BY_PURPOSE if split else {"all": 1122.0}).items():
        put_ratings(arena, SECOND, **{SECOND: rating, "reference": 1400.0})
        made = arena.lake.read("ratings", SECOND).to_pylist()
        rows += [row | {"purpose": purpose} for row in made]
    arena.lake.write("ratings", rows, SECOND)
    card = model_card(arena, resolve(arena, SECOND))
    board = card.partition("## Ratings")[2].partition("## What it took")[0]
    assert board.count(f"| {SECOND} |") == 1 and "1122" in board
    assert "1311" not in card and "933" not in card
    assert ("by which nobody was promoted" in card) is split
