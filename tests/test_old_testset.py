"""`arena migrate`: the test set of version 0.3.0 stays the one that is there."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import yaml
from conftest import PROJECT

from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.old_testset import migrate_testset
from arena_assets.flywheel.state import outdated

# as version 0.3.0 wrote them: with a served rater that has a price, and without one
RATED = "44b71c6fe37a253610898a426b5d5c891a7f2385df6b5733a8087886dcd8818e"
PLAIN = "87c41f4a40a66b7472eb6cb3e8e0c3b2e043d56e06defd04f394f86af6ca0bf3"


@pytest.fixture
def older(tmp_path):
    """An arena of the pocket profile, whose lake has a test set of version 0.3.0."""

    def build(drawn_by, rater=False, **changes):
        profile = yaml.safe_load((PROJECT / "profiles/pocket.yaml").read_text("utf-8"))
        endpoint = {"urls": ["http://127.0.0.1:1/v1"], "model": "one", "system_role": False}
        price = {"prompt": 1, "completion": 2}
        profile["models"]["served"] = {"endpoint": endpoint, "price": price}
        if rater:
            profile["prompts"]["testset"]["rater"] = {"model": "served"}
        profile["prompts"]["testset"]["clusters"] = 40  # as it was then
        for later in (
            "held_out_constraints",
            "held_out_prompts",
            "report_share",
        ):  # settings of now
            del profile["prompts"]["testset"][later]
        profile["prompts"]["testset"] |= changes
        (tmp_path / "arena.yaml").write_text(yaml.safe_dump(profile), "utf-8")
        arena = Arena(str(tmp_path / "arena.yaml"), str(tmp_path / "lake"))
        row = {"prompt_id": "p", "part": "diverse", "cluster": 0, "category": "c"}
        row |= {"version": "v001-abc", "turns": 1}
        whole = row | {"source": "seed", "messages": [{"role": "user", "content": "Why?"}]}
        arena.lake.write("testset_versions", [whole | {"constraints": "[]"}], "v001-abc")
        arena.lake.write("arena_testset", [row | {"family": "p", "purpose": "all"}])
        file = arena.lake.path("arena_testset")
        rows = pq.read_table(file).replace_schema_metadata({"arena.fingerprint": drawn_by})
        pq.write_table(rows, file)
        return arena

    return build


@pytest.mark.parametrize(("drawn_by", "rater"), [(RATED, True), (PLAIN, False)])
def test_the_version_that_the_profile_asked_for_is_the_one_that_it_asks_for(older, drawn_by, rater):
    arena = older(drawn_by, rater)
    assert outdated(arena, ["testset_versions"], "all") == ["testset_versions"]
    assert list(migrate_testset(arena)) == [("test set v001-abc", 1, 0, "")]
    assert outdated(arena, ["testset_versions"], "all") == []
    assert list(migrate_testset(arena)) == [], "once is enough"


def test_a_version_that_was_drawn_by_other_settings_stays_what_it_is(older):
    arena = older(PLAIN, edition=2)
    ((what, moved, left, why),) = migrate_testset(arena)
    assert (what, moved, left) == ("test set v001-abc", 0, 1) and "another" in why
    assert outdated(arena, ["testset_versions"], "all") == ["testset_versions"]
