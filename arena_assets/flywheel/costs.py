"""What a checkpoint took: tokens that were learned and generated, seconds, hours of a GPU.

Training is what its manifest and its log say. Generation is what the tables of its own round hold:
an answer or a verdict that an earlier round had paid for already is counted again.
"""

from __future__ import annotations

from typing import Any

import duckdb

from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.registry import Entry
from arena_assets.lake.lake import Lake, MissingPartition
from arena_assets.training.summaries import read_metrics, summary

_ANSWERS = """
    select count(*) as calls, sum(prompt_tokens) as prompt_tokens,
        sum(completion_tokens) as completion_tokens
    from rows where model != 'recorded'
"""
_GAMES = """
    select count(*) as calls, sum(prompt_tokens) as prompt_tokens,
        sum(completion_tokens) as completion_tokens, sum(seconds) as seconds
    from rows where status != 'abstained'
"""
_SECONDS = """
    with paid as (
        select response_id, any_value(seconds) as seconds
        from read_parquet($shards, union_by_name = true) group by response_id
    )
    select sum(paid.seconds) from paid
    where paid.response_id in (select response_id from read_parquet($rows))
"""


def costs(arena: Arena, entry: Entry) -> dict[str, Any]:
    """What training a model took, and what generating and judging its round took.

    Seconds are of the wall clock; `gpu_hours` are those of training times the devices, 0.0 on a
    CPU. What is not known is None.
    """
    if entry.manifest is None or entry.path is None:
        return {"training": {}, "answers": {}, "games": {}}
    lake, key = arena.lake, entry.name
    answers = _sums(lake, _ANSWERS, "responses", key)
    if answers:
        answers["seconds"] = _seconds_of_answers(lake, key)
    games = _sums(lake, _GAMES, "judgments", key)
    return {"training": _training(entry), "answers": answers, "games": games}


def _training(entry: Entry) -> dict[str, Any]:
    assert entry.manifest and entry.path, "a checkpoint has both"
    logged = summary(read_metrics(entry.path)) if entry.state != "missing" else {}
    took = logged | entry.manifest.metrics

    def total(suffix: str) -> Any:
        found = [value for name, value in took.items() if name.endswith(suffix)]
        return round(sum(found), 1) if found else None

    tokens = total("_num_tokens")
    devices, device = took.get("devices"), took.get("device")
    seconds = took.get("wall_seconds") or total("_runtime")
    known = None not in (devices, device, seconds)
    on_gpus = seconds * devices / 3600 if known and device != "cpu" else 0.0
    return {
        "tokens_learned": tokens and int(tokens),
        "seconds": seconds,
        "step_seconds": total("_train_runtime"),
        "devices": devices,
        "device": device,
        "gpu_hours": round(on_gpus, 4) if known else None,
    }


def _sums(lake: Lake, sql: str, table: str, key: str) -> dict[str, Any]:
    try:
        (row,) = lake.query(sql, rows=(table, key)).to_pylist()
    except (MissingPartition, duckdb.Error):  # not there, or torn
        return {}
    whole = ("calls", "prompt_tokens", "completion_tokens")  # sums are decimals in DuckDB
    return {n: int(v) if n in whole and v is not None else v for n, v in row.items()}


def _seconds_of_answers(lake: Lake, key: str) -> float | None:
    """The seconds of a round's answers, which the store alone knows."""
    shards = [str(shard) for shard in lake.stores.glob("responses/*/*.parquet")]
    if not shards:
        return None
    names = {"shards": shards, "rows": str(lake.path("responses", key))}
    with lake.connect() as connection:
        try:
            return connection.execute(_SECONDS, names).fetchall()[0][0]
        except duckdb.Error:  # a torn shard: then nobody knows
            return None
