"""Checkpoints on disk: one folder a round, with a manifest that says what it was made from.

The manifest is written last and the folder renamed into place, so a folder under its final name is
whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from arena_assets.settings_files import explain

MANIFEST = "manifest.json"
_NOT_WEIGHTS = {MANIFEST, "metrics.jsonl"}
_VERSIONED = ("torch", "transformers", "trl", "accelerate")


class CorruptCheckpoint(RuntimeError):
    """The files of a checkpoint are not the ones its manifest names."""


class Manifest(BaseModel):
    """What a checkpoint is and what it was made from; digests are SHA-256."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    round: str
    stage: str
    digest: str
    parent: str
    parent_digest: str
    training_set_digest: str
    fingerprint: str
    config: dict[str, Any]
    versions: dict[str, str]
    metrics: dict[str, Any]
    run_id: str
    created_at: datetime


def digest_weights(folder: Path) -> str:
    """SHA-256 over a model's files: weights, configuration and tokenizer."""
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name not in _NOT_WEIGHTS:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{path.name}\0{content}\n".encode())
    return whole.hexdigest()


def training_fingerprint(
    stage: str, parent_digest: str, training_set_digest: str, config: dict[str, Any], seed: int
) -> str:
    """The hash of all that determines a checkpoint: same fingerprint, no need to train again."""
    parts = [stage, parent_digest, training_set_digest, config, seed]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _VERSIONED}


def now() -> datetime:
    return datetime.now(UTC)


class CheckpointStore:
    """The checkpoints of one arena below one folder."""

    def __init__(self, root: Path):
        self.root = root

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

    def scratch(self, key: str) -> Path:
        """A folder to train into, not made yet; an earlier attempt's is removed."""
        self.root.mkdir(parents=True, exist_ok=True)
        for stale in self.root.glob(f".partial-{key}-*"):
            shutil.rmtree(stale)
        return self.root / f".partial-{key}-{uuid.uuid4().hex[:8]}"

    def commit(self, scratch: Path, manifest: Manifest) -> Path:
        """Make a trained folder the checkpoint of its round; the one before it is replaced."""
        with (scratch / MANIFEST).open("w", encoding="utf-8") as file:
            file.write(manifest.model_dump_json(indent=2))
            file.flush()
            os.fsync(file.fileno())
        place = self.path(manifest.round)
        old = scratch.with_name(scratch.name + "-old")
        if place.exists():
            place.rename(old)
        scratch.rename(place)
        if old.exists():
            shutil.rmtree(old)
        return place

    def verify(self, key: str) -> Manifest:
        """The manifest of a checkpoint that still has its digest, else CorruptCheckpoint."""
        manifest = self.manifest(key)
        if manifest is None:
            raise CorruptCheckpoint(f"{self.path(key)}: no checkpoint with a manifest; train {key}")
        found = digest_weights(self.path(key))
        if found != manifest.digest:
            raise CorruptCheckpoint(
                f"{self.path(key)}: its files have digest {found[:12]}, the manifest says "
                f"{manifest.digest[:12]}; delete the folder and materialize checkpoint {key} again"
            )
        return manifest


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """What training logged, one entry a step."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
