"""Kills, second runs, torn files, changed weights: nothing is lost, and nothing wrong is used."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from test_checkpoints import digest_of, manifest, trained

from arena_assets.lake.lake import Lake
from arena_assets.lake.store import Store
from arena_assets.training import checkpoints
from arena_assets.training.checkpoints import CheckpointStore, CorruptCheckpoint

KEY = "i01.1-sft"


def committed(store, content=b"weights", key=KEY):
    scratch = trained(store, key, content)
    return store.commit(scratch, manifest(scratch, key)).resolve()


def folders(store):
    return sorted(path.name for path in (store.root / ".versions").iterdir() if path.is_dir())


# -- commits -----------------------------------------------------------------------------------


def test_ten_kills_at_random_lose_no_checkpoint_and_remove_nothing_of_others(tmp_path):
    """Real SIGKILLs between many commits; a checkpoint stands there at any moment, whole."""
    mine = CheckpointStore(tmp_path)
    committed(mine)
    live = trained(mine, KEY, b"still being trained by this process")
    code = f"""
        import os, random, signal, sys, time
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_checkpoints import CheckpointStore, manifest, trained

        def commit_forever(seed):
            store = CheckpointStore(Path({str(tmp_path)!r}))
            while True:
                scratch = trained(store, {KEY!r}, os.urandom(50_000))
                store.commit(scratch, manifest(scratch))
                (Path({str(tmp_path)!r}) / f".{{seed}}.done").touch()

        draw = random.Random(5)
        for seed in range(10):
            if not (child := os.fork()):
                commit_forever(seed)
            while not (Path({str(tmp_path)!r}) / f".{{seed}}.done").exists():
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            reader = CheckpointStore(Path({str(tmp_path)!r}))
            print(reader.verify({KEY!r}, thorough=True).digest)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.split())) == 10
    assert (live / "model.safetensors").read_bytes() == b"still being trained by this process"
    mine.commit(live, manifest(live))
    assert mine.verify(KEY, thorough=True).digest == digest_of(mine.path(KEY))
    assert folders(mine) == [mine.path(KEY).resolve().name], "what the dead left is gone"


def test_a_second_run_leaves_a_live_training_folder_alone(tmp_path):
    first, second = CheckpointStore(tmp_path), CheckpointStore(tmp_path)
    live = trained(first, KEY, b"of the first run")
    other = trained(second, KEY, b"of the second run")
    second.commit(other, manifest(other))
    assert (live / "model.safetensors").read_bytes() == b"of the first run"
    first.discard(live)
    assert folders(first) == [first.path(KEY).resolve().name]


def test_what_a_dead_run_left_is_removed_and_folders_of_other_rounds_are_not(tmp_path):
    code = f"""
        import os, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_checkpoints import CheckpointStore, trained
        store = CheckpointStore(Path({str(tmp_path)!r}))
        trained(store, {KEY!r}, b"half")
        trained(store, "i02.1-sft", b"half")
        os._exit(1)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)])
    store = CheckpointStore(tmp_path)
    assert len(folders(store)) == 2
    committed(store)
    assert [name[:9] for name in folders(store)] == [KEY, "i02.1-sft"]


def test_a_checkpoint_that_is_being_read_outlives_its_successor(tmp_path):
    reader, writer = CheckpointStore(tmp_path), CheckpointStore(tmp_path)
    committed(writer, b"old")
    old = reader.current(KEY)
    new = committed(writer, b"new")
    assert (old / "model.safetensors").read_bytes() == b"old", "all its files are still there"
    assert writer.path(KEY).resolve() == new != old
    del reader
    newer = committed(writer, b"newer")
    assert folders(writer) == [newer.name]


def test_a_copy_that_followed_the_links_is_a_checkpoint_and_can_be_replaced(tmp_path):
    store = CheckpointStore(tmp_path)
    (tmp_path / KEY).mkdir()
    (tmp_path / KEY / "model.safetensors").write_bytes(b"copied")
    (tmp_path / KEY / "manifest.json").write_text(manifest(tmp_path / KEY).model_dump_json())
    assert store.verify(KEY).digest == digest_of(store.current(KEY))
    committed(CheckpointStore(tmp_path), b"new")
    assert (store.path(KEY) / "model.safetensors").read_bytes() == b"new"


def test_one_run_trains_a_round_at_a_time(tmp_path):
    first, second, said = CheckpointStore(tmp_path), CheckpointStore(tmp_path), []
    waits = threading.Event()

    def train():
        with second.locked(KEY, lambda line: (said.append(line), waits.set())):
            said.append(second.manifest(KEY).digest)

    with first.locked(KEY, print), first.locked("i01.2-dpo", print):
        thread = threading.Thread(target=train)
        thread.start()
        assert waits.wait(10)
        committed(first)
    thread.join(10)
    assert said[0].startswith("another run works on checkpoint i01.1-sft")
    assert said[1] == digest_of(first.path(KEY)), "it found what the first one made"


# -- changed files -----------------------------------------------------------------------------


def flip(path, keep_time=False):
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_one_changed_byte_is_found_at_the_next_look(tmp_path):
    store = CheckpointStore(tmp_path)
    committed(store)
    store.verify(KEY)
    flip(store.path(KEY) / "model.safetensors")
    for _ in range(2):  # the first look does not make it right
        with pytest.raises(CorruptCheckpoint, match=f"{KEY}: its files have digest"):
            store.verify(KEY)
    flip(store.path(KEY) / "model.safetensors")
    store.verify(KEY)


def test_a_change_that_kept_size_and_time_is_found_by_a_thorough_look(tmp_path):
    store = CheckpointStore(tmp_path)
    committed(store)
    store.verify(KEY)
    flip(store.path(KEY) / "model.safetensors", keep_time=True)
    store.verify(KEY)  # a look that reads nothing cannot see it
    with pytest.raises(CorruptCheckpoint):
        store.verify(KEY, thorough=True)


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "emptied"])
def test_files_that_come_or_go_are_found(tmp_path, change):
    store = CheckpointStore(tmp_path)
    folder = committed(store)
    store.verify(KEY)
    weights = folder / "model.safetensors"
    if change == "added":
        (folder / "adapter.safetensors").write_bytes(b"more")
    elif change == "removed":
        (folder / "config.json").unlink()
    elif change == "renamed":
        weights.rename(folder / "other.safetensors")
    else:
        weights.write_bytes(b"")
    with pytest.raises(CorruptCheckpoint):
        store.verify(KEY)


def test_a_look_reads_only_files_whose_time_changed(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    folder = committed(store)
    store.verify(KEY)
    os.utime(folder / "model.safetensors")
    read, hash_file = [], checkpoints._hash_file

    def count_reads(path):
        read.append(path.name)
        return hash_file(path)

    monkeypatch.setattr(checkpoints, "_hash_file", count_reads)
    (folder / ".verified.json.0123.partial").write_text("{")  # of a look that was killed
    store.verify(KEY)
    store.verify(KEY)
    assert read == ["model.safetensors"]


# -- shards ------------------------------------------------------------------------------------

SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])


def ids(store):
    with duckdb.connect() as connection:
        store.create_view(connection, "stored")
        return sorted(row[0] for row in connection.sql("select id from stored").fetchall())


def torn(shard: Path) -> dict[str, bytes]:
    whole = shard.read_bytes()
    return {
        "empty": b"",
        "zeros": bytes(len(whole)),
        "cut": whole[: len(whole) // 2],
        "without its end": whole[:-5],
        "start only": whole[:4],
    }


@pytest.mark.parametrize("how", ["empty", "zeros", "cut", "without its end", "start only"])
def test_a_torn_shard_hides_no_other_and_its_rows_are_made_again(tmp_path, caplog, how):
    store = Store(tmp_path / "store", SCHEMA, "id")
    store.append([{"id": "a", "text": "kept"}])
    store.append([{"id": "b", "text": "lost"}])
    shard = sorted(store.folder.glob("*.parquet"))[-1]
    shard.write_bytes(torn(shard)[how])
    with caplog.at_level(logging.WARNING):
        assert ids(store) == ["a"]
    assert str(shard) in caplog.text and "not a whole Parquet file" in caplog.text
    said = []
    with store.locked(said.append):
        assert len(said) == 1 and str(shard) in said[0]
        store.append([{"id": "b", "text": "again"}])
    assert ids(store) == ["a", "b"]
    aside = [path.name for path in store.folder.iterdir() if path.suffix == ".torn"]
    assert aside == [f"{shard.name}.torn"]
    caplog.clear()
    with store.locked(said.append):
        assert len(said) == 1 and not caplog.records, "it is told once"


def test_a_store_of_torn_shards_only_is_empty(tmp_path):
    store = Store(tmp_path, SCHEMA, "id")
    (tmp_path / "1.parquet").write_bytes(b"")
    assert ids(store) == []


def test_what_is_renamed_into_place_was_synced_before_and_its_folder_after(tmp_path, monkeypatch):
    calls = []
    fsync, rename = os.fsync, Path.replace

    def record_sync(descriptor):
        calls.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        fsync(descriptor)

    def record_rename(self, target):
        calls.append(("rename", Path(target).name))
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(Path, "replace", record_rename)
    lake = Lake(tmp_path)
    lake.write("slices", [{"prompt_id": "p", "slice": "D1"}])
    (synced, written), renamed, folder = calls
    assert synced == "sync" and written.endswith(".partial")
    assert renamed == ("rename", "all.parquet") and folder == ("sync", "slices")
    calls.clear()
    lake.record("slices", "all", "inputs")
    assert calls[0] == ("sync", "all.parquet"), "dbt does not, and what is noted has to be there"
    assert calls[2:] == [("rename", ".all.made.json"), ("sync", "slices")]
    calls.clear()
    store = CheckpointStore(tmp_path / "checkpoints")
    committed(store)
    at = calls.index(("rename", KEY))
    before = [name for what, name in calls[:at] if what == "sync"]
    assert {"model.safetensors", "config.json", "manifest.json"} <= set(before)
    assert calls[at + 1 :] == [("sync", "checkpoints")]
