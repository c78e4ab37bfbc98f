"""What `import arena_assets` offers, used as another program would."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

import arena_assets

DOCS = Path(__file__).parents[1] / "docs/api.md"


def test_every_public_name_is_there_is_documented_and_says_what_it_is():
    documented = set(re.findall(r"^\| `(\w+)", DOCS.read_text("utf-8"), re.M))
    assert set(arena_assets.__all__) == documented
    for name in arena_assets.__all__:
        assert getattr(arena_assets, name).__doc__
        assert name in dir(arena_assets)


def test_a_name_that_is_not_public_is_an_error_of_the_usual_kind():
    with pytest.raises(AttributeError, match="'arena_assets' has no attribute 'leaderboard'"):
        arena_assets.leaderboard  # noqa: B018


def test_a_table_of_battles_is_rated():
    from arena_assets import Anchor, Intervals, rate, read_battles

    battles = read_battles(
        pa.table(
            {
                "prompt_id": ["a", "a", "b", "c", "d"],
                "model_a": ["oak", "elm", "oak", "oak", "elm"],
                "model_b": ["elm", "oak", "elm", "elm", "oak"],
                "winner": ["model_a", "tie", "model_a", "model_b", None],
            }
        )
    )
    assert (battles.table.num_rows, battles.undecided) == (4, 1)
    board = rate(battles.table, Anchor("elm", 1000)).to_pylist()
    # 2.5 of 4 points: 400 * log10(2.5 / 1.5) above
    assert [(row["contestant"], round(row["rating"], 1)) for row in board] == [
        ("oak", 1088.7),
        ("elm", 1000.0),
    ]
    drawn = rate(battles.table, Anchor("elm", 1000), Intervals("bootstrap", resamples=20, seed=1))
    assert drawn["contestant"].to_pylist() == ["oak", "elm"]


def test_a_file_of_battles_may_be_named_by_a_text(tmp_path):
    path = tmp_path / "battles.csv"
    path.write_text("model_a,model_b,winner\noak,elm,model_a\n", "utf-8")
    assert arena_assets.read_battles(str(path)).table["score"].to_pylist() == [1.0]


def test_a_lake_is_read_without_an_arena(tmp_path):
    lake = arena_assets.Lake(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="materialize the asset quarantine first"):
        lake.read("quarantine")
    row = {"source": "mine", "path": "a.jsonl", "line": 3, "reason": "empty", "raw": "{}"}
    lake.write("quarantine", [row], "mine")
    assert lake.partitions("quarantine") == ["mine"]
    found = lake.query("select reason, line from lost", lost=("quarantine", "mine"))
    assert found.to_pylist() == [{"reason": "empty", "line": 3}]


def test_an_arena_is_opened_from_a_profile(tiny_profile, tmp_path):
    arena = arena_assets.Arena(tiny_profile, tmp_path / "lake")
    assert (arena.profile.name, list(arena.rounds)) == (
        "tiny",
        ["i01.1-sft", "i01.2-dpo", "i01.3-rl"],
    )
    assert arena.lake.partitions("ratings") == []


def test_the_arena_of_the_environment_is_opened(tiny_profile):
    assert arena_assets.open_arena().profile_path == tiny_profile


def test_a_round_that_the_profile_lacks_is_named():
    with pytest.raises(KeyError, match=r"i07\.1-sft"):
        arena_assets.run_round("i07.1-sft")
