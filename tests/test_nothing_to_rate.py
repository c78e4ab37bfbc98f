"""Rounds whose answers all failed or were refused: one sentence, and no count of what was lost."""

import dagster as dg
import pyarrow as pa
import pytest

from arena_assets.assets import ratings as assets
from arena_assets.config.ratings import ActiveSampling
from arena_assets.flywheel.arena import Arena
from arena_assets.judging.active import judge_actively
from arena_assets.lake.lake import Lake, write_atomically
from arena_assets.lake.store import Store

ROUND = "i01.1-sft"
BATTLES = pa.schema(
    [(name, pa.string()) for name in ("contestant_1", "contestant_2", "prompt_id", "status")]
    + [("role", pa.string()), ("score_1", pa.float64()), ("score_2", pa.float64())]
    + [("winner", pa.string()), ("judge", pa.string())]
)


def battle(one, two, status="decided"):
    row = {"contestant_1": one, "contestant_2": two, "prompt_id": "p", "status": status}
    return (
        row
        | {"role": "deciding", "score_1": 7.0, "score_2": 4.0, "judge": "j"}
        | {"winner": one if status == "decided" else None}
    )


@pytest.mark.parametrize(
    ("battles", "told"),
    [
        ([], "no decided battles"),
        ([battle("base", "best-of-2", "failed")], "no decided battles"),
        ([battle("base", "reference")], "the anchor 'best-of-2' has no battles"),
        ([battle("base", "reference"), battle("best-of-2", "x")], "these groups never met"),
    ],
)
def test_what_cannot_be_rated_is_told_in_one_sentence(battles, told, tmp_path, tiny_profile):
    arena = Arena(str(tiny_profile), str(tmp_path))
    table = pa.Table.from_pylist(battles, schema=BATTLES)
    write_atomically(table.to_reader(), arena.lake.path("arena_battles", ROUND))
    asked = {"prompt_id": "p", "part": "hard", "cluster": 0, "category": "c", "family": "p"}
    arena.lake.write("arena_testset", [asked | {"purpose": "all"}])
    with pytest.raises(dg.Failure) as failure:
        assets.ratings(dg.build_asset_context(partition_key=ROUND), arena)
    assert failure.value.description.startswith(f"ratings {ROUND}: ")
    assert told in failure.value.description and not failure.value.allow_retries


@pytest.mark.parametrize("battles", [0, 1])
def test_a_share_of_no_battles_is_no_battles(battles):
    drawn = pa.table(
        {name: ["x"] * battles for name in ("prompt_id", "first", "second")},
        schema=pa.schema([(name, pa.string()) for name in ("prompt_id", "first", "second")]),
    )
    chosen, judged = judge_actively(None, drawn, ActiveSampling(share=0.3), 0, print)
    assert (chosen.num_rows, judged) == (0, 0)


def test_what_stands_in_a_journal_is_there_for_whoever_reads(tmp_path):
    """A plan after a kill, or beside a run, counts what was paid for."""
    store = Store(tmp_path / "s", pa.schema([("key", pa.string()), ("n", pa.int64())]), "key")

    def seen():
        with Lake(tmp_path).connect() as connection:
            store.create_view(connection, "rows")
            return connection.sql("select key, n from rows order by key").fetchall()

    assert seen() == []
    with store.locked(print):
        store.append([{"key": "a", "n": 1}])
        with store.collecting() as keep:
            keep([{"key": "b", "n": 2}, {"key": "a", "n": 3}])
            assert seen() == [("a", 1), ("b", 2)], "the shard was first"
    assert seen() == [("a", 1), ("b", 2)]
