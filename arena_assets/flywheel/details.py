"""All that is known of one model: where it comes from, what it learned, how it fares, its cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.costs import costs
from arena_assets.flywheel.moment import Moment
from arena_assets.flywheel.registry import Entry, lineage
from arena_assets.lake.lake import ALL, MissingPartition
from arena_assets.training.checkpoints import learned_digest

LEARNED, REPLACED, NOW = "as learned", "replaced since", "as it is now"
_JUDGES: Final = """
    select judge, role, judge_version as version, count(*) as games
    from rows group by all order by role, judge, version
"""


def details(arena: Arena, entry: Entry) -> dict[str, Any]:
    """What `arena models show` and a model card say of a model; JSON can hold it."""
    manifest = entry.manifest
    return {
        "name": entry.name,
        "digest": entry.digest,
        "stage": entry.stage,
        "state": entry.state,
        "problem": entry.problem,
        "path": None if entry.path is None else str(entry.path),
        "size": entry.size,
        "created_at": entry.created_at,
        "run_id": manifest and manifest.run_id,
        "dtype": manifest and manifest.dtype,
        "parents": lineage(arena, entry),
        "promoted_after": list(entry.promoted_after),
        "fought_in": list(entry.fought_in),
        "data": data(arena, entry),
        "judges": judges(arena, entry),
        "config": manifest.config if manifest else {},
        "versions": manifest.versions if manifest else {},
        "metrics": manifest.metrics if manifest else {},
        "ratings": [asdict(rating) for rating in entry.ratings],
        "cost": costs(arena, entry),
    }


def data(arena: Arena, entry: Entry) -> list[dict[str, Any]]:
    """What a checkpoint learned, and what that was made from, with rows and digests.

    `state` says whether the training set is still the one that was learned; what lies behind it is
    told as it is now. Digests of slices and of the test set are those of their prompts.
    """
    if entry.manifest is None:
        return []
    now, lake = Moment(arena), arena.lake
    found = [_training_set(arena, entry)]
    rounds = rounds_learned(arena, entry.name)
    for table in ("battles", "judgments", "responses"):
        found += [_part(arena, table, key) for key in rounds]
    for name in sorted({arena.round(key).slice for key in rounds if key in arena.rounds}):
        found.append(_part(arena, "slices", ALL, now.slice_digest(name)) | {"partition": name})
    found.append(_part(arena, "arena_testset", ALL, now.tested_digest()))
    found += [_part(arena, "prompts", source) for source in lake.partitions("prompts")]
    return [row for row in found if row["digest"]]


def rounds_learned(arena: Arena, key: str) -> list[str]:
    """The rounds whose battles are in a training set."""
    try:
        found = arena.lake.query(
            "select distinct source_round as round from rows order by round",
            rows=("training_set", key),
        )
    except MissingPartition:
        return []
    return found["round"].to_pylist()


def judges(arena: Arena, entry: Entry) -> list[dict[str, Any]]:
    """Who judged the battles that a checkpoint learned from: judge, role, version, games."""
    found: dict[tuple[str, str, str], int] = {}
    for key in rounds_learned(arena, entry.name) if entry.manifest else ():
        if arena.lake.exists("judgments", key):
            for row in arena.lake.query(_JUDGES, rows=("judgments", key)).to_pylist():
                who = row["judge"], row["role"], row["version"]
                found[who] = found.get(who, 0) + row["games"]
    return [
        {"judge": judge, "role": role, "version": version, "games": games}
        for (judge, role, version), games in found.items()
    ]


def training_set_is_learned(arena: Arena, entry: Entry) -> bool:
    """Whether the training set that lies in the lake is the one that a checkpoint learned."""
    there = arena.lake.path("training_set", entry.name)
    learned = entry.manifest and entry.manifest.training_set_digest
    return there.exists() and learned_digest(there) == learned


def _training_set(arena: Arena, entry: Entry) -> dict[str, Any]:
    assert entry.manifest, "of a checkpoint"
    same = training_set_is_learned(arena, entry)
    return {
        "table": "training_set",
        "partition": entry.name,
        "rows": _rows(arena, "training_set", entry.name) if same else None,
        "digest": entry.manifest.training_set_digest,
        "state": LEARNED if same else REPLACED,
    }


def _part(arena: Arena, table: str, partition: str, digest: str | None = None) -> dict[str, Any]:
    return {
        "table": table,
        "partition": partition,
        "rows": _rows(arena, table, partition) if digest is None else None,
        "digest": digest or arena.digest(table, partition),
        "state": NOW,
    }


def _rows(arena: Arena, table: str, partition: str) -> int | None:
    try:
        (row,) = arena.lake.query("select count(*) as n from t", t=(table, partition)).to_pylist()
    except MissingPartition:
        return None
    return row["n"]
