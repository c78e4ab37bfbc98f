"""Tables are replaced whole or not at all, and stores never pay twice."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arena_assets.lake.lake import Lake, MissingPartition
from arena_assets.lake.store import Store, content_key_sql

SLICES = [{"prompt_id": "p1", "slice": "D1"}, {"prompt_id": "p2", "slice": "D2"}]


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def test_what_was_written_is_read_in_the_order_of_the_schema(lake):
    lake.write("slices", pa.table({"slice": ["D1"], "prompt_id": ["p"]}))
    table = lake.read("slices")
    assert table.column_names == ["prompt_id", "slice"]
    assert table.to_pylist() == [{"prompt_id": "p", "slice": "D1"}]
    assert lake.read("slices", columns=["slice"]).column_names == ["slice"]


def test_rows_that_do_not_fit_leave_the_old_partition_alone(lake):
    lake.write("slices", SLICES)
    before = lake.digest("slices")
    with pytest.raises(ValueError, match="slices/all: columns missing: slice"):
        lake.write("slices", pa.table({"prompt_id": ["p"]}))
    with pytest.raises(ValueError, match="slices/all: 1 rows have no slice"):
        lake.write("slices", [{"prompt_id": "p", "slice": None}])
    assert lake.digest("slices") == before
    assert [path.name for path in (lake.root / "slices").iterdir()] == ["all.parquet"]


def test_a_missing_partition_says_what_to_materialize(lake):
    lake.write("prompts", [], "seed")
    with pytest.raises(MissingPartition, match=r"partition web of the asset prompts .*there: seed"):
        lake.read("prompts", "web")
    with pytest.raises(MissingPartition, match=r"materialize the asset slices first"):
        lake.query("select * from t", t=("slices", "all"))
    assert lake.partitions("prompts") == ["seed"] and lake.partitions("slices") == []


@pytest.mark.parametrize(("table", "partition"), [("..", "x"), ("slices", "../../x"), ("/", "etc")])
def test_paths_stay_inside_the_lake(lake, table, partition):
    with pytest.raises(ValueError, match="outside the lake"):
        lake.path(table, partition)


def test_queries_take_parameters_and_tables(lake):
    lake.write("slices", SLICES)
    found = lake.query(
        "select s.prompt_id, more.n from s join more using (prompt_id) where s.slice = $slice",
        {"slice": "D2' or true --"},
        s=("slices", "all"),
        more=pa.table({"prompt_id": ["p2"], "n": [5]}),
    )
    assert found.num_rows == 0


def test_a_partition_tells_what_it_was_made_from_until_it_holds_other_rows(lake):
    lake.write("slices", SLICES)
    digest = lake.digest("slices")
    assert lake.made_from("slices", "all", digest) is None
    lake.record("slices", "all", "abc")
    assert lake.made_from("slices", "all", digest) == "abc"
    lake.write("slices", SLICES)
    assert lake.made_from("slices", "all", lake.digest("slices")) == "abc", "the same rows again"
    lake.write("slices", [])
    assert lake.made_from("slices", "all", lake.digest("slices")) is None


def test_a_file_that_is_as_it_was_noted_is_not_read_again(lake, monkeypatch):
    lake.write("slices", SLICES)
    lake.record("slices", "all", "abc")
    digest = lake.digest("slices")
    read = []
    monkeypatch.setattr("arena_assets.lake.lake.digest_of_state", read.append)
    assert lake.digest("slices") == digest and read == []
    os.utime(lake.path("slices"))
    lake.digest("slices")
    assert len(read) == 1, "a copy, or another file of the same size"


SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])


def stored(store):
    with duckdb.connect() as connection:
        store.create_view(connection, "stored")
        return sorted(connection.sql("select id, text from stored").fetchall())


def test_a_store_returns_each_row_once_and_the_first_one_written(tmp_path):
    store = Store(tmp_path / "it's a store", SCHEMA, "id")
    assert stored(store) == []
    store.append([{"id": "a", "text": "first"}])
    store.append([{"id": "a", "text": "second"}, {"id": "b", "text": "b"}])
    store.append([])
    assert stored(store) == [("a", "first"), ("b", "b")]


def test_one_writer_at_a_time_and_what_a_killed_one_left_is_removed(tmp_path):
    store, said = Store(tmp_path, SCHEMA, "id"), []
    code = f"""
        import time, pyarrow as pa
        from pathlib import Path
        from arena_assets.lake.store import Store
        with Store(Path({str(tmp_path)!r}), pa.schema([("id", pa.string())]), "id").locked(print):
            print("held", flush=True)
            time.sleep(600)
    """
    holder = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    holder.stdout.readline()
    (tmp_path / ".half.parquet.partial").write_bytes(b"half")
    threading.Timer(0.5, holder.kill).start()
    with store.locked(said.append):  # the lock ends with its process
        assert not list(tmp_path.glob(".*.partial"))
    holder.wait()
    assert len(said) == 1 and "another run works on" in said[0]


def test_keys_in_sql_differ_where_a_column_does():
    key = content_key_sql("a", "b")
    rows = duckdb.sql(f"""
        select count(distinct {key}) from (values ('x', 'y'), ('xy', ''), ('x', null), (null, 'x'))
        t(a, b)
    """).fetchall()
    assert rows == [(4,)]


def test_a_reader_is_streamed_into_a_partition_or_not_at_all(lake):
    def batches(bad):
        yield pa.RecordBatch.from_pylist(SLICES)
        yield pa.RecordBatch.from_pylist([{"prompt_id": "p3", "slice": None if bad else "D3"}])

    schema = pa.schema([("prompt_id", pa.string()), ("slice", pa.string())])
    lake.write("slices", pa.RecordBatchReader.from_batches(schema, batches(False)))
    assert lake.read("slices").num_rows == 3
    before = lake.digest("slices")
    with pytest.raises(ValueError, match="1 rows have no slice"):
        lake.write("slices", pa.RecordBatchReader.from_batches(schema, batches(True)))
    assert lake.digest("slices") == before


def test_a_killed_writer_leaves_only_whole_shards(tmp_path):
    code = f"""
        import pyarrow as pa
        from pathlib import Path
        from arena_assets.lake.store import Store
        store = Store(Path({str(tmp_path)!r}), pa.schema([("id", pa.string())]), "id")
        for number in range(10**6):
            store.append([{{"id": f"{{number}}-{{row}}"}} for row in range(5_000)])
            print(number, flush=True)
    """
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    for _ in range(5):
        writer.stdout.readline()
    time.sleep(0.003)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    shards = list(tmp_path.glob("*.parquet"))
    assert len(shards) >= 5
    assert {pq.read_metadata(shard).num_rows for shard in shards} == {5_000}
    count = duckdb.sql(f"select count(*) from read_parquet('{tmp_path}/*.parquet')").fetchall()
    assert count == [(5_000 * len(shards),)]
