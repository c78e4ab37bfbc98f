"""Slices: disjoint random parts of the curated prompts, none of them near the arena test set.

A slice takes the prompts that come first by a hash of the seed, its name and the prompt_id, after
the slices that are named before it. So slices depend on the prompts, the seed and the settings and
on nothing that was drawn before: a source that is removed and put back gives the same slices, and
another slice at the end of the names leaves those before it as they are.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from arena_assets.config.prompts import Slices
from arena_assets.lake.lake import ALL, Lake
from arena_assets.lake.tables import SLICES

_TAKE = """
    insert into drawn
    select prompt_id, $slice from prompts anti join drawn using (prompt_id)
    where $source::varchar is null or source = $source
    order by md5($seed || '|' || $slice || '|' || prompt_id) limit $rows
"""


def unused_prompts(lake: Lake) -> pa.Table:
    """The curated prompts that are not in the test set: prompt_id and source."""
    return lake.query(
        "select prompt_id, source from prompts anti join testset using (prompt_id)",
        prompts=("prompts_curated", ALL),
        testset=("arena_testset", ALL),
    )


def draw_slices(prompts: pa.Table, settings: Slices, seed: int) -> pa.Table:
    """The slice of every prompt that is in one, as rows of SLICES.

    `prompts` have prompt_id and source. Raises ValueError where there are too few to fill every
    slice.
    """
    wanted = wanted_rows(prompts, settings)
    source = {settings.initial.name: settings.initial.source} if settings.initial else {}
    with duckdb.connect() as connection:
        connection.register("prompts", prompts)
        connection.execute("create table drawn (prompt_id varchar, slice varchar)")
        for name, rows in wanted.items():
            connection.execute(
                _TAKE,
                {"slice": name, "source": source.get(name), "seed": str(seed), "rows": rows},
            )
        drawn = connection.sql("select * from drawn order by slice, prompt_id").to_arrow_table()
    return drawn.cast(SLICES.schema)


def wanted_rows(prompts: pa.Table, settings: Slices) -> dict[str, int]:
    """How many of these prompts each slice takes, in the order in which slices are drawn.

    Raises ValueError where there are too few.
    """
    wanted, left = {}, prompts.num_rows
    if initial := settings.initial:
        sources = prompts["source"].to_pylist()
        fitting = left if initial.source is None else sources.count(initial.source)
        if fitting < initial.rows:
            raise ValueError(
                f"prompts.slices.initial asks for {initial.rows} prompts of "
                f"{initial.source or 'all sources'}, but only {fitting} are left after curation "
                "and the test set; add prompts or lower rows"
            )
        wanted[initial.name] = initial.rows
        left -= initial.rows
    names = settings.names
    rows = settings.rows or left // len(names)
    if not rows or left < rows * len(names):
        raise ValueError(
            f"prompts.slices asks for {len(names)} slices of {rows or 'some'} prompts, but only "
            f"{left} are left after curation and the test set; add prompts or lower rows"
        )
    return wanted | dict.fromkeys(names, rows)
