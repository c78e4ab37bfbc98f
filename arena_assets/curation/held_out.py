"""What is held out whole: types of constraints and sources that no slice has and that never select.

A test prompt of a family that was trained on tells how well a task was learned; one of a type that
nobody trained on tells whether anything else was learned, or forgotten.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

import duckdb
import pyarrow as pa

from arena_assets.config.prompts import Testset
from arena_assets.lake.lake import Lake
from arena_assets.lake.tables import PROMPT_DROPS

STEP: Final = "held out"  # in prompt_drops
_CONSTRAINT, _SOURCE = "constraint", "source"


def held_out_by(prompts: pa.Table, settings: Testset, seed: int) -> list[str | None]:
    """By what each prompt is held out, such as "constraint json_object"; None where it is not.

    `prompts` have constraints (JSON) and source. Raises ValueError where a type is in no prompt, or
    a source has none.
    """
    types = [_types(constraints) for constraints in prompts["constraints"].to_pylist()]
    there = sorted({kind for of_prompt in types for kind in of_prompt})
    wanted = settings.held_out_constraints
    if isinstance(wanted, int):
        if wanted > len(there):
            raise ValueError(
                f"prompts.testset.held_out_constraints: {wanted} types are to be held out, but the "
                f"prompts have {len(there)} ({', '.join(there) or 'none'})"
            )
        wanted = tuple(sorted(there, key=lambda kind: _order(seed, kind))[:wanted])
    for kind in wanted:
        if kind not in there:
            raise ValueError(
                f"prompts.testset.held_out_constraints: no prompt has {kind!r} "
                f"(there: {', '.join(there) or 'none'})"
            )
    sources = prompts["source"].to_pylist()
    for source in settings.held_out_sources:
        if source not in sources:
            raise ValueError(
                f"prompts.testset.held_out_sources: no prompt of {source!r} qualifies for the test "
                "set"
            )
    names = [f"{_CONSTRAINT} {kind}" for kind in wanted]
    names += [f"{_SOURCE} {source}" for source in settings.held_out_sources]
    return [_name(own, source, names) for own, source in zip(types, sources, strict=True)]


def draw_held_out(prompts: pa.Table, settings: Testset, seed: int) -> pa.Table:
    """Of the prompts that are held out (column held_out), those that the test set takes.

    The names take turns, so that each has about as many. Raises ValueError where there are fewer
    than asked for, or more names than prompts: what the test set has none of is not held out.
    """
    wanted = settings.held_out_prompts
    names = sorted(set(prompts["held_out"].to_pylist()))
    if len(names) > wanted:
        raise ValueError(
            f"prompts.testset.held_out_prompts: {wanted} prompts cannot have {len(names)} things "
            f"that are to be held out ({', '.join(names)}); ask for more prompts"
        )
    if (settings.held_out_constraints or settings.held_out_sources) and prompts.num_rows < wanted:
        raise ValueError(
            f"prompts.testset.held_out_prompts asks for {wanted} prompts, but only "
            f"{prompts.num_rows} are of what is held out"
        )
    with duckdb.connect() as connection:
        connection.register("held", prompts)
        return connection.sql(
            """
            with ranked as (
                select *, row_number() over (
                    partition by held_out order by md5($seed || '|' || prompt_id)
                ) as nth
                from held
            )
            select * exclude (nth) from ranked
            order by nth, md5($seed || '|' || held_out) limit $rows
            """,
            params={"seed": str(seed), "rows": settings.held_out_prompts},
        ).to_arrow_table()


def held_out_drops(
    connection: duckdb.DuckDBPyConnection, relation: str, lake: Lake, version: str
) -> pa.Table:
    """The prompts of a relation that are of what a version of the test set holds out, as drops."""
    said = lake.query(
        "select distinct held_out from testset where held_out is not null order by held_out",
        testset=("testset_versions", version),
    )
    names = said["held_out"].to_pylist()
    rows: list[dict[str, Any]] = []
    if names:
        asked = connection.sql(f"select prompt_id, constraints, source from {relation}")
        for prompt_id, constraints, source in asked.fetchall():
            if name := _name(_types(constraints), source, names):
                rows.append({"prompt_id": prompt_id, "step": STEP, "reason": f"{name} is held out"})
    return pa.Table.from_pylist(rows, schema=PROMPT_DROPS.schema)


def _types(constraints: str) -> list[str]:
    return [constraint["type"] for constraint in json.loads(constraints)]


def _name(types: Sequence[str], source: str, names: Sequence[str]) -> str | None:
    of_prompt = {*(f"{_CONSTRAINT} {kind}" for kind in types), f"{_SOURCE} {source}"}
    return next((name for name in names if name in of_prompt), None)


def _order(seed: int, name: str) -> str:
    return hashlib.md5(f"{seed}|{name}".encode(), usedforsecurity=False).hexdigest()
