"""A model as a folder that the Hugging Face libraries and vLLM load, with a card; and on the hub.

The folder is written beside its place, every file is compared with the digest that was recorded of
it, and then it gets its name: a folder of that name is whole. Nothing but safetensors, settings and
tokenizer goes in, and code where the profile trusts it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from arena_assets.config.places import resolve
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.model_card import model_card
from arena_assets.flywheel.registry import Entry, RegistryError
from arena_assets.flywheel.weights import models_note, refuse_replaced, trusts_target
from arena_assets.lake.durable import sync, sync_tree
from arena_assets.lake.lake import writing
from arena_assets.models.weights import hub_patterns
from arena_assets.training.checkpoints import (
    CARD,
    MANIFEST,
    MASTERS,
    VERIFIED,
    CorruptCheckpoint,
)

TOKEN: Final = "HF_TOKEN"
WEIGHTS: Final = ("*.safetensors", "*.safetensors.index.json")


def export(arena: Arena, entry: Entry, folder: Path, masters: bool = False) -> Path:
    """Write a model to a folder that is not there yet, or is empty; gives the folder.

    By default the weights are those that fight (bfloat16); `masters` are those that the next stage
    goes on from. Raises RegistryError where the folder is taken or there are no masters,
    CorruptCheckpoint where the files are not those that were recorded, NotWritable where the disk
    takes no more; then nothing of that name is there.
    """
    place = folder.resolve()
    _refuse_taken(arena, place)
    source, digests = _recorded(arena, entry)
    files = chosen_files(entry, digests, masters, trusts_target(arena.profile))
    card = model_card(arena, entry, masters)
    scratch = place.with_name(f".{place.name}-{uuid.uuid4().hex[:8]}.partial")
    try:
        with writing(scratch):
            scratch.mkdir(parents=True)
            for name, recorded in files.items():
                _copy(source / recorded, scratch / name, digests[recorded])
            _write_template(arena, entry, scratch)
            if entry.manifest:
                (scratch / MANIFEST).write_text(entry.manifest.model_dump_json(indent=2), "utf-8")
            (scratch / CARD).write_text(card, "utf-8")
            sync_tree(scratch)
            scratch.replace(place)
            sync(place.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return place


def push(arena: Arena, entry: Entry, repository: str, private: bool, masters: bool = False) -> str:
    """Put a model on the hub as a commit of a repository, made if missing; gives its address.

    The token is that of HF_TOKEN alone, the hub that of HF_ENDPOINT (default: huggingface.co).
    Weights that an earlier commit left there under other names are removed: a library might load
    them instead. Raises RegistryError where there is no token or the hub refuses.
    """
    from httpx2 import HTTPError
    from huggingface_hub import HfApi

    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise RegistryError(
            f"{TOKEN} is not set: make a token that may write at "
            f"https://huggingface.co/settings/tokens and put it into the environment"
        )
    hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    with tempfile.TemporaryDirectory() as scratch:
        folder = export(arena, entry, Path(scratch) / "model", masters)
        try:
            made = hub.create_repo(repository, private=private, exist_ok=True)
            if private and not hub.model_info(made.repo_id).private:
                raise RegistryError(
                    f"{repository} is there already and everybody can read it: make it private on "
                    "the hub, name another, or leave --private out"
                )
            done = hub.upload_folder(
                repo_id=made.repo_id,
                folder_path=folder,
                commit_message=f"{entry.name} of arena {arena.profile.name}, {entry.digest}",
                delete_patterns=list(WEIGHTS),
            )
        except RegistryError:
            raise
        # no connection, a refusal, no name of a repository, an answer that is none
        except (HTTPError, OSError, ValueError, RuntimeError) as error:
            said = " ".join(str(error).replace(token, "***").split())
            raise RegistryError(f"{repository} was not pushed to {hub.endpoint}: {said}") from None
    return str(done.commit_url)


def _refuse_taken(arena: Arena, place: Path) -> None:
    if arena.lake.root in (place, *place.parents):
        raise RegistryError(f"{place} lies in the lake, which keeps its own files: name another")
    if place.is_dir() and not any(place.iterdir()):
        return
    if place.exists():
        kind = "is not empty" if place.is_dir() else "is a file"
        raise RegistryError(f"{place} {kind}: name a folder that is not there yet, or is empty")


def _recorded(arena: Arena, entry: Entry) -> tuple[Path, dict[str, str]]:
    """The folder of a model, every file of which was read just now, and the SHA-256 of each.

    A checkpoint's folder stays while this process runs, also where it is trained again meanwhile.
    """
    if entry.state == "missing" or entry.path is None:
        raise RegistryError(f"{entry.name} cannot be exported: {entry.problem}")
    if entry.manifest:
        folder = arena.checkpoints.current(entry.name)
        found = arena.checkpoints.verify(entry.name, thorough=True)
        if found.digest != entry.digest:
            raise RegistryError(f"{entry.name} was trained again meanwhile: try once more")
        note = folder / VERIFIED
    else:
        folder, name = entry.path, arena.profile.target.model
        refuse_replaced(arena, name, thorough=True)
        note = models_note(arena.lake, name)
    files = json.loads(note.read_text("utf-8"))
    return folder, {name: digest for name, (_, _, digest) in files.items()}


def chosen_files(
    entry: Entry, digests: Iterable[str], masters: bool, trusted: bool
) -> dict[str, str]:
    """The files of an export by name, each with its name below the folder of the model.

    `digests` names what was recorded; RegistryError where masters are wanted and there are none.
    """
    patterns = hub_patterns(trusted)
    # what else a folder holds may be a pickle
    files = {n: n for n in digests if "/" not in n and any(fnmatch(n, p) for p in patterns)}
    if not masters:
        return files
    inner = f"{MASTERS}/"
    kept = {name.removeprefix(inner): name for name in digests if name.startswith(inner)}
    if not kept:
        raise RegistryError(
            f"{entry.name} keeps no masters, only the weights that fight: leave --masters out"
        )
    weights = {name for name in files if any(fnmatch(name, p) for p in WEIGHTS)}
    return {name: files[name] for name in files.keys() - weights} | kept


def _copy(source: Path, copy: Path, digest: str) -> None:
    """Copy a file; CorruptCheckpoint where the copy is not what was recorded."""
    shutil.copyfile(source, copy)
    with copy.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise CorruptCheckpoint(
            f"{source}: its copy has SHA-256 {found[:12]}, recorded was {digest[:12]}; try again, "
            "and look at the disk if it stays"
        )


def _write_template(arena: Arena, entry: Entry, folder: Path) -> None:
    """The base model's chat template, where the profile gives another; checkpoints have theirs."""
    template = arena.profile.models[arena.profile.target.model].chat_template
    if template and entry.manifest is None:
        text = resolve(template).read_text("utf-8-sig")
        (folder / "chat_template.jinja").write_text(text, "utf-8")
