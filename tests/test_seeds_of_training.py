"""Seeds of training: each counts once, each trains otherwise, and one without a gain counts too."""

from __future__ import annotations

import pytest
import yaml
from test_promotion_rules import FIRST, prepared, promote

from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.seed_gains import NoGain, gained
from arena_assets.flywheel.seeds import BadSeed


def test_the_seed_that_the_profile_has_is_the_arenas_own_lake(tmp_path, tiny_profile):
    own = Arena(tiny_profile, tmp_path / "lake", training_seed=3)
    assert own.lake.root == tmp_path / "lake" and own.shares_with is None
    other = Arena(tiny_profile, tmp_path / "lake", training_seed=0)
    assert other.lake.root == tmp_path / "lake-seed-0" and other.profile.training_seed == 0


def test_a_round_that_fixes_its_seed_is_no_other_one_under_another_seed(tmp_path, tiny_profile):
    profile = yaml.safe_load(tiny_profile.read_text("utf-8"))
    profile["rounds"][FIRST]["training"] = {"seed": 4}
    (tmp_path / "arena.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    with pytest.raises(BadSeed, match=rf"ARENA_TRAINING_SEED: rounds.{FIRST}.training.seed fixes"):
        Arena(tmp_path / "arena.yaml", tmp_path / "lake", training_seed=5)
    assert Arena(tmp_path / "arena.yaml", tmp_path / "lake").profile.training_seed == 3


def test_a_lake_counts_once(tmp_path, tiny_profile):
    arena = prepared(tmp_path, tiny_profile, "best")
    promote(arena)
    with pytest.raises(NoGain, match="is given twice: a seed counts once"):
        gained([arena.lake.root] * 2, "promoted", "base", None, "points", ["report"])


@pytest.mark.parametrize("measure", ["points", "head_to_head"])
def test_a_seed_whose_base_model_fights_on_has_gained_nothing_and_counts(
    tmp_path, tiny_profile, measure
):
    lakes = []
    for name, better in (("a", FIRST), ("b", "base")):
        arena = prepared(tmp_path / name, tiny_profile, "best", better=better)
        promote(arena)
        lakes.append(arena.lake.root)
    won, none, both = gained(lakes, "promoted", "base", None, measure, ["select"])
    assert (won.of, none.of) == (FIRST, "base")
    assert (none.points.difference, none.points.lower, none.points.upper) == (0, 0, 0)
    assert (none.share.difference, none.share.p_value) == (0, 1)
    assert both.points.difference == pytest.approx(won.points.difference / 2)
    assert both.share.difference == pytest.approx(won.share.difference / 2)
    assert both.points.lower < 0, "two seeds that far apart prove nothing"
