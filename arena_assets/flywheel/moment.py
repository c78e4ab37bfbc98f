"""The lake at one moment: digests of tables and of parts of them, and the models that are known.

A part is told by its rows (a slice's prompts, the battles that decide), so that what changes beside
it changes nothing. Files are read once, as long as they stay as they are.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

import duckdb

from arena_assets.config.profile import Profile
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.weights import known_models, replaced_models
from arena_assets.lake.files import FileState, file_state
from arena_assets.lake.lake import ALL
from arena_assets.models.model import Model

_PROMPTS: Final = """
    select {drawn}, md5(string_agg(md5(to_json(prompts)::varchar), '' order by prompt_id))
    from read_parquet($drawn) as drawn join read_parquet($prompts) as prompts using (prompt_id)
    group by all
"""
_DECIDED: Final = """
    select 'deciding', md5(string_agg(md5(to_json(battles)::varchar), '' order by battle_id))
    from read_parquet($battles) as battles where role = 'deciding'
"""


class Moment:
    """An arena as it is now; made anew whenever something may have changed."""

    def __init__(self, arena: Arena):
        self.arena = arena

    @property
    def profile(self) -> Profile:
        return self.arena.profile

    def recipe(self, partition: str) -> Profile:
        """The profile as it is for a round; for anything else as it is."""
        return self.profile.of_round(partition) if partition in self.arena.rounds else self.profile

    @cached_property
    def known(self) -> dict[str, Model]:
        """The profile's models by name; one whose files were replaced is not known any more."""
        replaced = replaced_models(self.arena)
        known = known_models(self.arena)
        return {name: model for name, model in known.items() if name not in replaced}

    def digest(self, table: str, partition: str = ALL) -> str | None:
        """The digest of a partition or of a checkpoint; None where it is missing."""
        return self.arena.digest(table, partition)

    def slice_digest(self, name: str) -> str | None:
        """A hash of the prompts of a slice; None before it was drawn."""
        return self._prompts("slices", "drawn.slice").get(name)

    def tested_digest(self) -> str | None:
        """A hash of the prompts of the test set, as they are among the curated ones."""
        return self._prompts("arena_testset", "'all'").get("all")

    def _prompts(self, drawn: str, by: str) -> dict[str, str]:
        paths = {"drawn": self.arena.lake.path(drawn)}
        paths["prompts"] = self.arena.lake.path("prompts_curated")
        return _rows(_PROMPTS.format(drawn=by), paths)

    def decided_digest(self, key: str) -> str | None:
        """A hash of a round's battles that decide; shadow judges add others."""
        path = self.arena.lake.path("battles", key)
        return _rows(_DECIDED, {"battles": path}).get("deciding")


def _rows(sql: str, files: dict[str, Path]) -> dict[str, str]:
    """What SQL over files says, once for each state of them; nothing where one is missing."""
    there = {name: state for name, path in files.items() if (state := file_state(path))}
    return _asked(sql, tuple(there.items())) if len(there) == len(files) else {}


@lru_cache(maxsize=256)
def _asked(sql: str, files: tuple[tuple[str, FileState], ...]) -> dict[str, str]:
    with duckdb.connect() as connection:
        try:
            found = connection.execute(sql, {name: state.path for name, state in files})
            return dict(found.fetchall())
        except duckdb.Error:  # torn, or of another version
            return {}
