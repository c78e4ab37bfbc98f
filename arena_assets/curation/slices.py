"""Slices: disjoint random parts of the curated prompts, none of them near the arena test set."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from arena_assets.config import Slices
from arena_assets.curation.testset import ORDER
from arena_assets.tables import SLICES


def draw_slices(
    prompts: pa.Table, settings: Slices, seed: int, drawn: pa.Table | None = None
) -> pa.Table:
    """The slice of every prompt that is in one, as rows of SLICES.

    `prompts` have prompt_id and source. What was `drawn` before stays as long as the prompt is
    there; slices that were not, are drawn from the prompts that are in none. Raises ValueError
    where those do not fill the new slices.
    """
    drawn = drawn if drawn is not None else SLICES.schema.empty_table()
    with duckdb.connect() as connection:
        connection.register("prompts", prompts)
        connection.register("drawn", drawn)
        initial = [settings.initial.name] if settings.initial else []
        kept = connection.sql(
            """
            select drawn.prompt_id, drawn.slice from drawn join prompts using (prompt_id)
            where list_contains($names, drawn.slice)
            """,
            params={"names": [*settings.names, *initial]},
        ).to_arrow_table()
        free = connection.sql(
            f"""
            select prompt_id, source from prompts
            where prompt_id not in (select prompt_id from drawn) order by {ORDER}
            """,
            params={"seed": str(seed)},
        ).to_arrow_table()
    there = set(drawn["slice"].unique().to_pylist())
    order = list(zip(free["prompt_id"].to_pylist(), free["source"].to_pylist(), strict=True))
    new: list[dict[str, str]] = []
    if settings.initial and settings.initial.name not in there:
        taken = _initial(order, settings)
        new += [{"prompt_id": prompt_id, "slice": settings.initial.name} for prompt_id in taken]
        order = [row for row in order if row[0] not in taken]
    names = [name for name in settings.names if name not in there]
    rows = settings.rows or (len(order) // len(names) if names else 0)
    if names and (rows == 0 or len(order) < rows * len(names)):
        raise ValueError(
            f"prompts.slices asks for {len(names)} slices of {rows or 'some'} prompts, but only "
            f"{len(order)} are left after curation and the test set; add prompts or lower rows"
        )
    for position, name in enumerate(names):
        chosen = order[position * rows : (position + 1) * rows]
        new += [{"prompt_id": prompt_id, "slice": name} for prompt_id, _ in chosen]
    added = pa.Table.from_pylist(new, schema=SLICES.schema)
    return pa.concat_tables([kept.cast(SLICES.schema), added]).sort_by(
        [("slice", "ascending"), ("prompt_id", "ascending")]
    )


def _initial(order: list[tuple[str, str]], settings: Slices) -> set[str]:
    wanted = settings.initial
    fitting = [p for p, source in order if wanted.source in (None, source)]
    if len(fitting) < wanted.rows:
        raise ValueError(
            f"prompts.slices.initial asks for {wanted.rows} prompts of "
            f"{wanted.source or 'all sources'}, but only {len(fitting)} are left"
        )
    return set(fitting[: wanted.rows])
