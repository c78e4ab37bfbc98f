"""Answers are stored as they come: a journal until their shard is written, whatever happens."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import PROJECT
from drill import PROMPTS, ROUND, write_prompts
from fault_server import FaultServer

from arena_assets.config.models import Endpoint
from arena_assets.lake.lake import Lake, NotWritable, make_writable, writing
from arena_assets.lake.store import Store

SCHEMA = pa.schema([("key", pa.string()), ("text", pa.string()), ("tokens", pa.int64())])
ROWS = [
    {"key": f"k{number}", "text": text, "tokens": None if number % 2 else number}
    for number, text in enumerate(
        ["plain", "two\nlines\r\n", "\u2028 \x00 \x1f", "é \N{GRINNING FACE}"]
    )
]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", SCHEMA, "key")


def rows_of(store: Store) -> list[dict]:
    with Lake(store.folder.parent).connect() as connection:
        store.create_view(connection, "rows")
        return connection.sql("select * from rows order by key").to_arrow_table().to_pylist()


def test_rows_that_come_one_by_one_become_one_shard(store):
    with store.locked(print):
        with store.collecting() as keep:
            for row in ROWS:
                keep([row])
            assert not list(store.folder.glob("*.parquet"))
    assert rows_of(store) == ROWS
    assert len(list(store.folder.glob("*.parquet"))) == 1 and not list(
        store.folder.glob(".journal*")
    )


def test_what_has_come_is_a_shard_when_something_goes_wrong(store):
    with pytest.raises(KeyboardInterrupt), store.locked(print), store.collecting() as keep:
        keep(ROWS[:3])
        raise KeyboardInterrupt
    assert rows_of(store) == ROWS[:3]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_journal_that_a_killed_run_left_is_taken_over(store, cut):
    store.folder.mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (store.folder / ".journal.jsonl").write_text(lines[:-cut], "utf-8")
    with store.locked(print):
        pass
    whole = lines[:-cut].count("\n") + (cut == 1)  # only its line break is missing
    assert rows_of(store) == ROWS[:whole]


def test_shards_of_before_a_column_was_added_are_read(store):
    old = pa.schema([("key", pa.string()), ("text", pa.string())])
    Store(store.folder, old, "key").append([{"key": "k", "text": "old"}])
    assert rows_of(store) == [{"key": "k", "text": "old", "tokens": None}]
    store.append([{"key": "l", "text": "new", "tokens": 3}])
    assert [row["tokens"] for row in rows_of(store)] == [None, 3]


# -- disks that take no more -------------------------------------------------------------------


@pytest.fixture
def full_disk():
    """Files may not grow beyond some kilobytes: the kernel refuses, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_ends_in_one_sentence_and_what_was_there_stays(store, request):
    long = [{"key": f"k{n:02}", "text": os.urandom(2_000).hex(), "tokens": n} for n in range(12)]
    with store.locked(print):
        store.append(ROWS)
    request.getfixturevalue("full_disk")
    with pytest.raises(NotWritable) as refused, store.locked(print):
        with store.collecting() as keep:
            for row in long:
                keep([row])
    sentence = str(refused.value)
    assert "\n" not in sentence and str(store.folder) in sentence
    assert "files may not grow that large here; what was finished before is kept" in sentence
    # and so is what has come
    assert [row for row in rows_of(store) if row not in long] == ROWS
    lake = Lake(store.folder.parent)
    prompts = [{"prompt_id": row["key"], "slice": row["text"]} for row in long]
    with pytest.raises(NotWritable, match=r"slices/all\.parquet: cannot be written"):
        lake.write("slices", prompts)
    assert not lake.exists("slices") and not list(lake.root.rglob("*.partial"))


def test_what_a_full_disk_left_in_the_journal_is_found_when_there_is_room_again(store):
    long = [{"key": f"k{n:02}", "text": os.urandom(2_000).hex(), "tokens": n} for n in range(12)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(NotWritable), store.locked(print), store.collecting() as keep:
            for row in long:
                keep([row])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with store.locked(print):
        pass
    found = rows_of(store)
    assert 3 <= len(found) < 12 and found == long[: len(found)]


def test_the_devices_own_error_is_told():
    full = Path("/dev/full")
    with pytest.raises(NotWritable, match="/dev/full: cannot be written, the disk is full;"):
        with writing(full), full.open("w") as file:
            file.write("a row")


@pytest.fixture
def read_only():
    """A folder that nobody may write into, and a user to whom that applies."""
    folder = Path(tempfile.mkdtemp(prefix="arena-read-only-"))
    (folder / "lake").mkdir()
    (folder / "lake").chmod(0o555)
    folder.chmod(0o755)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder / "lake"
    if root:
        os.seteuid(0)
    shutil.rmtree(folder)


def test_a_lake_that_may_not_be_written_is_told_in_one_sentence(read_only):
    place = str(read_only)
    with pytest.raises(NotWritable, match=f"{place}.*this user may not write there"):
        Lake(read_only).write("slices", [])
    with pytest.raises(NotWritable, match=f"{place}.*this user may not write there"):
        with Store(read_only / "store", SCHEMA, "key").locked(print):
            pass
    with pytest.raises(NotWritable, match="this user may not write there"):
        make_writable(read_only)


def test_what_is_read_while_writing_may_fail_for_its_own_reasons(tmp_path):
    def rows():
        raise PermissionError(errno.EACCES, "Permission denied", "/somewhere/else.jsonl")
        yield

    reader = pa.RecordBatchReader.from_batches(
        pa.schema([("prompt_id", pa.string()), ("slice", pa.string())]), rows()
    )
    with pytest.raises(PermissionError, match="somewhere"):
        Lake(tmp_path).write("slices", reader)


# -- killed runs -------------------------------------------------------------------------------

CONCURRENCY = 3


def run_drill(lake: Lake, phase: str, endpoint: Endpoint) -> subprocess.Popen[str]:
    """A run that makes one batch of all there is to do."""
    command = [sys.executable, "-u", "tests/drill.py", str(lake.root), phase]
    return subprocess.Popen(
        [*command, endpoint.model_dump_json(), "100"],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.DEVNULL,
    )


def kill_when(server: FaultServer, run: subprocess.Popen[str], more: int) -> None:
    """Kill a run (kill -9) when so many more requests have come in."""
    wanted = len(server.received) + more
    deadline = time.monotonic() + 60
    while len(server.received) < wanted and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert run.poll() is None, "it was at work"
    run.send_signal(signal.SIGKILL)
    run.wait()


def repeated(server: FaultServer, since: int) -> int:
    """How many requests were sent again, of those since a place."""
    asked = Counter(json.dumps(received.body["messages"]) for received in server.received[since:])
    return sum(asked.values()) - len(asked)


@pytest.mark.parametrize(
    ("phases", "kills"),
    [
        (("answer",), [25]),
        pytest.param(("answer", "judge"), [25, 3, 9, 14, 1], marks=pytest.mark.drill),
    ],
)
def test_a_kill_repeats_no_more_than_what_was_under_way(tmp_path, phases, kills):
    lake = Lake(tmp_path)
    write_prompts(lake)
    with FaultServer(default="slow:0.02") as server:
        endpoint = Endpoint(urls=(server.url,), model="any", concurrency=CONCURRENCY, timeout=30)
        for phase in phases:
            since = len(server.received)
            for requests in kills:
                kill_when(server, run_drill(lake, phase, endpoint), requests)
            assert run_drill(lake, phase, endpoint).wait(120) == 0
            # of a dialogue under way, the turns that were answered are asked again as well
            turns = 2 if phase == "answer" else 1
            assert repeated(server, since) <= len(kills) * CONCURRENCY * turns
    rows = lake.read("responses", ROUND).to_pylist()
    assert len(rows) == 2 * PROMPTS and {row["status"] for row in rows} == {"ok"}
    if "judge" in phases:
        assert lake.read("judgments", ROUND).num_rows == 2 * PROMPTS
    shards = list((lake.root / "store").rglob("*.parquet"))
    assert len(shards) <= 2 * len(phases) + len(phases) * len(kills), "one a batch, one a kill"
