"""The test set of version 0.3.0, with a note of what it was drawn by: none is drawn anew."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.parquet as pq

from arena_assets.curation.testset import current_version
from arena_assets.flywheel import old_keys
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.ingredients import testset_version
from arena_assets.flywheel.made_from import Making
from arena_assets.flywheel.moment import Moment
from arena_assets.lake.store import is_whole


def migrate_testset(arena: Arena) -> Iterator[tuple[str, int, int, str]]:
    """Note of the current version what it was drawn by, if the profile still asks for it.

    Yields (what, moved, left, why), as other parts of `arena migrate` do.
    """
    lake = arena.lake
    if not lake.exists("arena_testset") or testset_version(Moment(arena)):
        return
    if not is_whole(lake.path("arena_testset")):
        yield "test set", 0, 1, "arena_testset is not a whole Parquet file"
        return
    metadata = pq.read_schema(lake.path("arena_testset")).metadata or {}
    drawn_by = metadata.get(b"arena.fingerprint")
    if drawn_by is None:
        return
    version = current_version(lake)
    if drawn_by.decode() != old_keys.testset(arena.profile):
        yield f"test set {version}", 0, 1, "the profile asks for another one"
        return
    Making(arena, ["testset_versions"]).ended("testset_versions", version)
    yield f"test set {version}", 1, 0, ""
