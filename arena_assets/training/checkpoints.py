"""Checkpoints on disk: immutable folders, and one link a round that names the current one.

    <root>/i01.1-sft -> .versions/i01.1-sft-4f0c21ab

The manifest is written last, everything is synced, and then the link is replaced, which is one
atomic step: a kill at any moment leaves the old checkpoint or the new one. Who trains into a folder
holds its lock, who reads it shares it; a folder that is not the current one is removed by whoever
gets its lock alone, so neither a live run's folder nor one that is being read is taken away.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from arena_assets.config.settings_files import explain
from arena_assets.lake.code import code_version
from arena_assets.lake.durable import claim, exclusive, sync, sync_tree, write_text
from arena_assets.lake.identity import identity
from arena_assets.training.measuring import MEASURED
from arena_assets.training.progress import (
    METRICS,
    PROGRESS,
    await_processes,
    begin,
    continues,
    tidy,
)

MANIFEST = "manifest.json"
ROWS = "rows.json"  # what was learned from and what was left out, by reason
# of the rows of a training set
LEARNED = ("kind", "messages", "chosen_turns", "rejected_turns", "constraints", "reference")
_OF_REWARDS = ("constraints", "reference")  # null but for prompts
VERIFIED = ".verified.json"  # size and time of each file when it was hashed last
MASTERS = "masters"  # a sub-folder: the weights in float32, which the next stage trains on from
ROLLOUTS = "rollouts.parquet"  # what RL drew, with rewards
CARD = "README.md"  # of an export, which others write too; no model is loaded from it
_NOT_WEIGHTS = {MANIFEST, ROWS, ROLLOUTS, MEASURED, CARD, METRICS}
_VERSIONED = ("torch", "transformers", "trl", "peft", "accelerate")
_VERSIONS = ".versions"
_PARTIAL = ".partial"


class CorruptCheckpoint(RuntimeError):
    """The files of a checkpoint or of a model are not the ones that were recorded."""


class Manifest(BaseModel):
    """What a checkpoint is and what it was made from; digests are SHA-256."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    round: str
    stage: str
    digest: str
    parent: str
    parent_digest: str
    training_set_digest: str
    base_digest: str | None = Field(None, description="of the weights that an adapter is laid over")
    fingerprint: str
    config: dict[str, Any]
    dtype: str
    versions: dict[str, str]
    metrics: dict[str, Any]
    run_id: str
    created_at: datetime


def verified_digest(folder: Path, note: Path, thorough: bool = False) -> str:
    """SHA-256 over a model's files: weights, configuration and tokenizer, in sub-folders too.

    Files that are as they were at the last look are not read.

    The note holds size, time of change and SHA-256 of each file, so that a look costs no more than
    a listing. `thorough` hashes everything: it also finds a change that kept size and time.
    """
    noted = json.loads(note.read_text("utf-8")) if note.exists() else {}
    files = {}
    for name, path in _weight_files(folder):
        status = path.stat()
        state = [status.st_size, status.st_mtime_ns]
        *before, digest = noted.get(name, [None])
        if before != state or thorough:
            digest = _hash_file(path)
        files[name] = [*state, digest]
    if files != noted:
        write_text(note, json.dumps(files, indent=1))
    return _whole({name: digest for name, (_, _, digest) in files.items()})


def _weight_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file that a model may be loaded from, by its name below the folder.

    Hidden ones are notes of ours, of a file system or of a download.
    """
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            said = path.relative_to(folder).as_posix()
            if not name.startswith(".") and said not in _NOT_WEIGHTS:
                yield said, path


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _whole(files: dict[str, str]) -> str:
    lines = (f"{name}\0{content}\n" for name, content in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def training_fingerprint(
    stage: str, parent: str, training_set: str, config: Mapping[str, Any], seed: int
) -> str:
    """The hash of all that determines a checkpoint: same fingerprint, no need to train again.

    `parent` is the digest of the weights, `training_set` that of what is learned of the rows
    (`learned_digest`), `config` the settings of the stage.
    """
    return identity(
        "checkpoint",
        code=code_version("checkpoint"),
        stage=stage,
        parent=parent,
        training_set=training_set,
        config=config,
        seed=seed,
    )


def learned_digest(training_set: Path) -> str:
    """SHA-256 of what training reads of a training set, in the order of its rows.

    Who answered and under which key is no part of it: a row that is found again under another key
    teaches the same.
    """
    whole, file = hashlib.sha256(), pq.ParquetFile(training_set)
    columns = [name for name in LEARNED if name in file.schema_arrow.names]
    for batch in file.iter_batches(columns=columns):
        for row in batch.select(columns).to_pylist():
            for name in _OF_REWARDS:
                if row.get(name) is None:
                    row.pop(name, None)
            whole.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return whole.hexdigest()


def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _VERSIONED}


def now() -> datetime:
    return datetime.now(UTC)


class CheckpointStore:
    """The checkpoints of one arena below one folder."""

    def __init__(self, root: Path):
        self.root = root
        self._claims: dict[Path, IO[bytes]] = {}  # folders that this store writes or reads

    def path(self, key: str) -> Path:
        return self.root / key

    def manifest(self, key: str) -> Manifest | None:
        """The manifest of a round's checkpoint; None where there is no checkpoint.

        Raises CorruptCheckpoint where it can't be read.
        """
        path = self.path(key) / MANIFEST
        if not path.exists():
            return None
        try:
            return Manifest.model_validate_json(path.read_bytes())
        except ValidationError as error:
            told = "; ".join(explain(problem, Manifest, "manifest") for problem in error.errors())
            raise CorruptCheckpoint(
                f"{path}: {told}; it was written by another version or changed by hand: delete the "
                f"folder {path.parent} and materialize checkpoint {key} again"
            ) from None

    def locked(self, key: str, log: Callable[[str], None]) -> AbstractContextManager[None]:
        """Train a round alone: a second run waits, and then finds what the first one made."""
        lock_file = self.root / _VERSIONS / f"{key}.training.lock"
        return exclusive(lock_file, f"checkpoint {key}", log)

    def scratch(self, key: str, made_from: str | None = None) -> Path:
        """A folder to train into; what dead runs left behind is removed.

        But where one of them was making the same thing, its folder is taken over: training goes on
        from what it saved. Without `made_from` the folder is new and not made yet.
        """
        for folder in sorted((self.root / _VERSIONS).glob(f"{key}-*{_PARTIAL}")):
            if made_from is None or not continues(folder, made_from):
                continue
            if held := claim(self._lock_file(folder), wait=False):
                self._claims[folder] = held
                await_processes(folder)
                tidy(folder)
                self._sweep(key)
                return folder
        self._sweep(key)
        folder = self.root / _VERSIONS / f"{key}-{uuid.uuid4().hex[:8]}{_PARTIAL}"
        self._claims[folder] = claim(self._lock_file(folder))
        if made_from is not None:
            begin(folder, made_from)
        return folder

    def release(self, scratch: Path) -> None:
        """Leave a folder that training did not finish to the next run, if there is a step in it."""
        if tidy(scratch):
            self._claims.pop(scratch).close()
        else:
            self.discard(scratch)

    def discard(self, scratch: Path) -> None:
        """Remove a folder that training did not finish."""
        shutil.rmtree(scratch, ignore_errors=True)
        self._lock_file(scratch).unlink()
        self._claims.pop(scratch).close()

    def commit(self, scratch: Path, manifest: Manifest) -> Path:
        """Make a trained folder the checkpoint of its round, in one step.

        The one before is removed as soon as nobody reads it.
        """
        (scratch / MANIFEST).write_text(manifest.model_dump_json(indent=2), "utf-8")
        sync_tree(scratch)
        shutil.rmtree(scratch / PROGRESS, ignore_errors=True)
        version = scratch.with_name(scratch.name.removesuffix(_PARTIAL))
        scratch.rename(version)
        sync(version.parent)
        place, link = self.path(manifest.round), version / ".link"
        link.symlink_to(version.relative_to(self.root))
        if place.is_dir() and not place.is_symlink():  # from a copy of the lake that followed links
            place.rename(version.with_name(f"{manifest.round}-{uuid.uuid4().hex[:8]}"))
        link.replace(place)
        sync(self.root)
        self._claims.pop(scratch).close()
        self._sweep(manifest.round)
        return place

    def current(self, key: str) -> Path:
        """The folder of a round's checkpoint, which stays as long as this store (or process) does.

        The link may be replaced at any time; whoever loads several files wants them of one folder.
        """
        while True:
            folder = self.path(key).resolve()
            if folder not in self._claims:
                self._claims[folder] = claim(self._lock_file(folder), shared=True)
            if self.path(key).resolve() == folder:
                return folder

    def verify(self, key: str, thorough: bool = False) -> Manifest:
        """The manifest of a checkpoint that still has its digest, else CorruptCheckpoint.

        Files whose size and time are those of the last look are hashed only if `thorough`.
        """
        manifest = self.manifest(key)
        if manifest is None:
            raise CorruptCheckpoint(f"{self.path(key)}: no checkpoint with a manifest; train {key}")
        folder = self.path(key).resolve()
        found = verified_digest(folder, folder / VERIFIED, thorough)
        if found != manifest.digest:
            raise CorruptCheckpoint(
                f"{self.path(key)}: its files have digest {found[:12]}, the manifest says "
                f"{manifest.digest[:12]}; restore them, or delete the folder and materialize "
                f"checkpoint {key} again"
            )
        return manifest

    def _lock_file(self, folder: Path) -> Path:
        return self.root / _VERSIONS / f"{folder.name.removesuffix(_PARTIAL)}.lock"

    def _sweep(self, key: str) -> None:
        """Remove the round's folders that are not current and that nobody holds."""
        versions = self.root / _VERSIONS
        names = {path.name.removesuffix(_PARTIAL) for path in versions.glob(f"{key}-*")}
        for version in {versions / name.removesuffix(".lock") for name in names}:
            lock_file = self._lock_file(version)
            held = claim(lock_file, wait=False)
            if held is None:
                continue
            # its writer may have made it the current one a moment ago
            if version.resolve() != self.path(key).resolve():
                for folder in (version, version.with_name(version.name + _PARTIAL)):
                    shutil.rmtree(folder, ignore_errors=True)
                lock_file.unlink()
            held.close()
