"""Checkpoints of version 0.3.0 under the fingerprints of now: they are not trained again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_type_hints

from arena_assets.config.contents import jinja_tokens
from arena_assets.config.training import SECTIONS, Training
from arena_assets.flywheel import old_keys
from arena_assets.flywheel.arena import Arena
from arena_assets.lake.durable import write_text
from arena_assets.lake.identity import canonical
from arena_assets.lake.lake import writing
from arena_assets.models.prompting import SystemPrompt
from arena_assets.training.checkpoints import (
    MANIFEST,
    Manifest,
    learned_digest,
    training_fingerprint,
)


def migrate_checkpoints(
    arena: Arena, parents: Mapping[str, str], log: Callable[[str], None]
) -> Iterator[tuple[str, int, int, str]]:
    """Write the new fingerprint into each manifest that has the old one; (what, moved, left, why).

    `parents` are the new digests of models by their old ones. What was learned is read from the
    training set in the lake, if that is still the one that the checkpoint was made from.
    """
    for key in arena.rounds:
        store, what = arena.checkpoints, f"checkpoint {key}"
        with store.locked(key, log):
            manifest = store.manifest(key)
            if manifest is None or manifest.fingerprint != _old(manifest, arena.profile.seed):
                continue
            lake = arena.lake
            known = lake.exists("training_set", key) and lake.digest("training_set", key)
            if known != manifest.training_set_digest:
                yield what, 0, 1, "the training set that it was made from is not in the lake"
                continue
            learned = learned_digest(lake.path("training_set", key))
            parent = parents.get(manifest.parent_digest, manifest.parent_digest)
            config = _config(manifest.stage, manifest.config)
            made_from = {
                "parent_digest": parent,
                "training_set_digest": learned,
                "config": config,
                "fingerprint": training_fingerprint(
                    manifest.stage, parent, learned, config, arena.profile.seed
                ),
            }
            place = store.current(key) / MANIFEST
            changed = manifest.model_copy(update=made_from)
            with writing(place):
                write_text(place, changed.model_dump_json(indent=2))
            yield what, 1, 0, ""


def _old(manifest: Manifest, seed: int) -> str | None:
    return old_keys.checkpoint(
        manifest.stage,
        manifest.parent_digest,
        manifest.training_set_digest,
        manifest.config,
        seed,
    )


def _config(stage: str, old: dict[str, Any]) -> dict[str, Any]:
    """The settings of a stage as training/making.py has them now."""
    sections, prompt = get_type_hints(Training), old["system_prompt"]
    return canonical(
        {
            "dtype": old["dtype"],
            **{name: sections[name].model_validate(_seen(old[name])) for name in SECTIONS[stage]},
            "system_prompt": prompt and SystemPrompt.model_validate({**prompt, "version": ""}),
            "chat_template": old["chat_template"]
            and jinja_tokens(old["chat_template"], trimmed=True),
        }
    )


def _seen(old: dict[str, Any]) -> dict[str, Any]:
    """Settings with the batch that a step saw: batches were cut to whole passes of a device."""
    passes = max(1, old["batch"] // old["device_batch"])
    return {**old, "batch": passes * old["device_batch"]}
