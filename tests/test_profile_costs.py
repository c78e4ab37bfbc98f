"""Each shipped profile says what it takes, and its judge games are those that are played."""

from __future__ import annotations

import re
from math import comb

import pytest
from conftest import PROJECT

from arena_assets.config.profile import Profile, load_profile
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.planning import plan

PROFILES = sorted((PROJECT / "profiles").glob("*.yaml"))
CURATED = {"paper-7b": 276_000}  # prompts of a profile whose slices are equal parts of all


def _said(path, what: str) -> str:
    """What the comment at the top of a profile says of one thing."""
    head = path.read_text("utf-8").split("\nname:")[0]
    found = re.search(rf"^#   {what}: (.+)$", head, re.MULTILINE)
    assert found, f"{path.name} says nothing of {what}"
    return found[1]


def _games(profile: Profile) -> int:
    """Games over the slices and on the test set, those of shadow judges included."""
    rounds, opponents = len(profile.rounds), len(profile.opponents)
    slices, tests = profile.prompts.slices, profile.prompts.testset
    fought = slices.rows * rounds if slices.rows else CURATED[profile.name]
    tested = tests.clusters * tests.diverse_per_cluster + tests.hard
    tested += tests.held_out_prompts if tests.held_out_constraints else 0
    everybody = 1 + rounds + opponents  # the base model and the checkpoints
    battles = comb(1 + opponents, 2) * fought + comb(everybody, 2) * tested
    battles += sum(shadow.battles or 0 for shadow in profile.shadow_judges) * rounds
    return 2 * battles


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_shipped_profile_says_what_it_takes(path):
    for what in ("hours", "memory", "disk"):
        assert re.search(r"\d", _said(path, what)), what
    (said,) = re.findall(r"([\d,]+) judge games", _said(path, "judge"))
    assert int(said.replace(",", "")) == _games(load_profile(path))


@pytest.mark.parametrize("name", ["pocket", pytest.param("pocket-3", marks=pytest.mark.slow)])
def test_the_games_that_a_profile_says_are_those_that_are_planned(name, tmp_path):
    path = PROJECT / "profiles" / f"{name}.yaml"
    works = plan(Arena(str(path), str(tmp_path / "lake")))
    played = sum(w.to_do for w in works if w.work in ("judgments", "arena_judgments"))
    assert played == _games(load_profile(path))


@pytest.mark.parametrize("name", ["pocket-3", "single-gpu", "paper-7b"])
def test_three_iterations_of_three_stages_fight_over_a_slice_each(name):
    profile = load_profile(f"profiles/{name}.yaml")
    assert [key[:3] for key in profile.rounds] == ["i01"] * 3 + ["i02"] * 3 + ["i03"] * 3
    fought = [settings.slice for settings in profile.rounds.values()]
    assert fought == list(profile.prompts.slices.names), "no prompt is fought over twice"
