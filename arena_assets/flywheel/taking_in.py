"""Takes in the models of a profile: fetches or converts their weights and says what is in them."""

from __future__ import annotations

from collections.abc import Callable

from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.weights import models_note
from arena_assets.models.weights import base_weights, origin_of, served_digest
from arena_assets.training.checkpoints import verified_digest


def take_in_models(arena: Arena, log: Callable[[str], None]) -> list[dict[str, str]]:
    """Rows of models; every file of local weights is read."""
    rows = []
    for name, model in arena.profile.models.items():
        if model.endpoint:
            # a server does not show its weights: its name for them has to do
            path, digest = "", served_digest(model.endpoint)
        else:
            folder = base_weights(model, arena.models_cache, name)
            path = str(folder)
            digest = verified_digest(folder, models_note(arena.lake, name), thorough=True)
        origin = origin_of(model)
        log(f"{name}: {origin} -> {path}, digest {digest[:12]}")
        rows.append({"name": name, "origin": origin, "path": path, "digest": digest})
    return rows
