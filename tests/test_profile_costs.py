"""Each shipped profile says what it takes, and its number of judge games is the one that is played."""

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


def _games(profile: Profile) -> tuple[int, int]:
    """Games of the deciding judge over the slices, and on the test set."""
    opponents, prompts = len(profile.opponents), profile.prompts
    rows = (prompts.slices.rows or CURATED[profile.name] // len(prompts.slices.names)) * len(
        profile.rounds
    )
    if profile.name in CURATED:
        rows = CURATED[profile.name]
    tests = prompts.testset.clusters * prompts.testset.diverse_per_cluster + prompts.testset.hard
    everybody = 1 + len(profile.rounds) + opponents  # the base model and the checkpoints
    shadows = sum(2 * (shadow.battles or 0) for shadow in profile.shadow_judges)
    return (
        2 * comb(1 + opponents, 2) * rows + shadows * len(profile.rounds),
        2 * comb(everybody, 2) * tests,
    )


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_shipped_profile_says_what_it_takes(path):
    for what in ("hours", "memory", "disk"):
        assert re.search(r"\d", _said(path, what)), what
    (said,) = re.findall(r"([\d,]+) judge games", _said(path, "judge"))
    assert int(said.replace(",", "")) == sum(_games(load_profile(path)))


@pytest.mark.parametrize("name", ["pocket", "pocket-3", "single-gpu"])
def test_the_games_that_a_profile_says_are_those_that_are_planned(name, tmp_path):
    path = PROJECT / "profiles" / f"{name}.yaml"
    works = plan(Arena(str(path), str(tmp_path / "lake")))
    played = sum(w.to_do for w in works if w.work in ("judgments", "arena_judgments"))
    assert played == sum(_games(load_profile(path)))
