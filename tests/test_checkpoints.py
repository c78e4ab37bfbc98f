"""Checkpoints are whole or not there, and say what they were made from."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from arena_assets.training.checkpoints import (
    VERIFIED,
    CheckpointStore,
    CorruptCheckpoint,
    Manifest,
    now,
    verified_digest,
)


def digest_of(folder: Path) -> str:
    """The digest of a folder's files, each of which is read."""
    return verified_digest(folder, folder / VERIFIED, thorough=True)


def manifest(folder: Path, key: str = "i01.1-sft", **changes) -> Manifest:
    values = {
        "round": key,
        "stage": "sft",
        "digest": digest_of(folder),
        "parent": "base",
        "parent_digest": "p",
        "training_set_digest": "t",
        "fingerprint": "f",
        "config": {"learning_rate": 1e-4},
        "dtype": "float32",
        "versions": {"trl": "1"},
        "metrics": {},
        "run_id": "run",
        "created_at": now(),
    }
    return Manifest(**(values | changes))


def trained(store: CheckpointStore, key: str, content: bytes) -> Path:
    scratch = store.scratch(key)
    scratch.mkdir(parents=True)
    (scratch / "model.safetensors").write_bytes(content)
    (scratch / "config.json").write_text("{}")
    return scratch


def test_a_committed_checkpoint_is_found_with_its_manifest(tmp_path):
    store = CheckpointStore(tmp_path)
    assert store.manifest("i01.1-sft") is None
    scratch = trained(store, "i01.1-sft", b"weights")
    written = manifest(scratch)
    place = store.commit(scratch, written)
    assert place == store.path("i01.1-sft") and not scratch.exists()
    assert store.verify("i01.1-sft") == written


def test_a_new_checkpoint_replaces_the_old_one_and_leaves_nothing_behind(tmp_path):
    store = CheckpointStore(tmp_path)
    for content in (b"old", b"new"):
        scratch = trained(store, "i01.1-sft", content)
        store.commit(scratch, manifest(scratch))
    assert (store.path("i01.1-sft") / "model.safetensors").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir() if path.name[0] != "."] == ["i01.1-sft"]
    assert len([path for path in (tmp_path / ".versions").iterdir() if path.is_dir()]) == 1


def test_changed_files_are_noticed(tmp_path):
    store = CheckpointStore(tmp_path)
    scratch = trained(store, "i01.1-sft", b"weights")
    store.commit(scratch, manifest(scratch))
    (store.path("i01.1-sft") / "model.safetensors").write_bytes(b"other")
    with pytest.raises(CorruptCheckpoint, match=r"delete the folder and materialize checkpoint"):
        store.verify("i01.1-sft")
    with pytest.raises(CorruptCheckpoint, match="no checkpoint with a manifest"):
        store.verify("i01.2-dpo")


def test_the_digest_covers_weights_and_tokenizer_but_not_the_record(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"w")
    one = digest_of(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "metrics.jsonl").write_text("{}")
    assert digest_of(tmp_path) == one
    (tmp_path / "tokenizer.json").write_text("{}")
    assert digest_of(tmp_path) != one


def test_a_writer_that_is_killed_never_leaves_half_a_checkpoint(tmp_path):
    """Ten writers are killed at different moments; what stands under the final name is whole."""
    code = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from arena_assets.training.checkpoints import CheckpointStore
        from test_checkpoints import manifest, trained
        store = CheckpointStore(Path({str(tmp_path)!r}))
        for number in range(10**6):
            scratch = trained(store, "i01.1-sft", bytes([number % 256]) * 300_000)
            store.commit(scratch, manifest(scratch))
            print(number, flush=True)
    """
    store = CheckpointStore(tmp_path)
    for attempt in range(10):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE
        )
        writer.stdout.readline()
        time.sleep(0.002 * attempt)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        if store.path("i01.1-sft").exists():
            store.verify("i01.1-sft")
    scratch = trained(store, "i01.1-sft", b"after")
    store.commit(scratch, manifest(scratch))
    assert store.verify("i01.1-sft").digest == digest_of(store.path("i01.1-sft"))
