"""The models that a profile names: which are known, and whether their files are still the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from arena_assets.config.generation import changing_text
from arena_assets.config.profile import Profile
from arena_assets.flywheel.arena import Arena
from arena_assets.lake.lake import Lake
from arena_assets.models.model import Local, Model, Served
from arena_assets.models.weights import origin_of, present_weights, served_digest, templated
from arena_assets.training.checkpoints import CorruptCheckpoint, verified_digest
from arena_assets.training.kept_adapters import rank_of


class BrokenChain(RuntimeError):
    """A round cannot start because what it builds on is missing or out of date; says what to do."""


def known_models(arena: Arena) -> dict[str, Model]:
    """The profile's models whose digest can be told now.

    A served model is what the profile says of it. Other weights are those that the `models` asset
    found, as long as the profile names the same origin; what is missing here has to be found anew.
    """
    lake = arena.lake
    known: dict[str, Model] = {}
    found = lake.read("models").to_pylist() if lake.exists("models") else []
    rows = {(row["name"], row["origin"]): row for row in found}
    for name, model in arena.profile.models.items():
        row = rows.get((name, origin_of(model)))
        if model.endpoint:
            known[name] = Served(name, served_digest(model.endpoint), model.endpoint)
        elif row:
            known[name] = Local(
                name,
                present_weights(model, arena.models_cache, name, row["path"]),
                templated(row["digest"], model.chat_template),
                model.trust_remote_code,
                model.chat_template,
                local_engine(arena),
                adapters=_kept_rank(arena.profile) if name == arena.profile.target.model else None,
            )
    return known


def models(arena: Arena) -> dict[str, Model]:
    """The weights of every model of the profile.

    Raises BrokenChain where some are not found, CorruptCheckpoint where the files of some are not
    those that the asset `models` took in.
    """
    known = known_models(arena)
    missing = [name for name in arena.profile.models if name not in known]
    if missing:
        name = missing[0]
        raise BrokenChain(
            f"models.{name}: the profile names {origin_of(arena.profile.models[name])}, whose "
            "weights are not in the lake's table models: materialize `models` (`arena run` does so)"
        )
    for row in _local_models(arena):
        _refuse_other_files(arena, row)
    return known


def base_of(arena: Arena, known: Mapping[str, Model]) -> Local:
    """The base model of the target; KeyError where it is not known."""
    base = known[arena.profile.target.model]
    assert isinstance(base, Local), "a profile whose target is served is refused"
    return base


def adapter_over(base: Local, name: str, folder: Path, digest: str) -> Local:
    """A checkpoint that is an adapter over weights of this machine."""
    room = max(rank_of(folder), base.adapters or 0)
    return replace(
        base,
        name=name,
        path=folder,
        digest=digest,
        base=replace(base, adapters=room),
        adapters=None,
    )


def _kept_rank(profile: Profile) -> int | None:
    """The largest rank of the adapters that checkpoints are; None where all are whole weights.

    The base's engine is opened for them from the start, so that it needn't be opened again.
    """
    loras = [profile.of_round(key).training.lora for key in profile.rounds]
    return max((lora.rank for lora in loras if lora and not lora.merge), default=None)


def local_engine(arena: Arena) -> dict[str, Any]:
    """The settings of vLLM here that are part of what a model says."""
    return changing_text(arena.profile.generation.engine)


def trusts_target(profile: Profile) -> bool:
    """Whether the code that comes with the target's weights is run: its checkpoints need it too."""
    return profile.models[profile.target.model].trust_remote_code


def replaced_models(arena: Arena) -> set[str]:
    """The names of models whose files are others than the asset `models` took in.

    Weights that are not on this machine are none of them: what they made is made.
    """
    found = _local_models(arena) if arena.lake.exists("models") else []
    there = [row for row in found if Path(row["path"]).is_dir()]
    return {row["name"] for row in there if _said(partial(_refuse_other_files, arena, row)) != "ok"}


def refuse_replaced(arena: Arena, name: str, thorough: bool = False) -> None:
    """CorruptCheckpoint where a model's files are not those that the asset `models` took in."""
    for row in _local_models(arena):
        if row["name"] == name:
            _refuse_other_files(arena, row, thorough)


def _local_models(arena: Arena) -> list[dict[str, str]]:
    """The rows of the table `models` whose weights lie on this disk, with their present path."""
    rows = []
    for row in arena.lake.read("models").to_pylist():
        model = arena.profile.models.get(row["name"])
        if model and not model.endpoint:
            path = present_weights(model, arena.models_cache, row["name"], row["path"])
            rows.append(row | {"path": str(path)})
    return rows


def models_note(lake: Lake, name: str) -> Path:
    """Where the asset `models` notes size, time and hash of a model's files."""
    return lake.root / "models" / f".{name}.verified.json"


def _refuse_other_files(arena: Arena, row: dict[str, str], thorough: bool = False) -> None:
    """CorruptCheckpoint where a model's files are not those that the asset `models` took in."""
    note = models_note(arena.lake, row["name"])
    if not note.exists() and not thorough:  # a table that the asset did not write
        return
    path = Path(row["path"])
    found = verified_digest(path, note, thorough) if path.is_dir() else "none (no folder)"
    if found != row["digest"]:
        raise CorruptCheckpoint(
            f"models.{row['name']}: the digest of {path} is {found[:16]}, the asset models "
            f"recorded {row['digest'][:16]}; restore the files, or materialize models to go on "
            "with what is there now"
        )


def verify_weights(arena: Arena) -> list[dict[str, str]]:
    """Every model and checkpoint with what a thorough look at its files finds: ok, or what is not.

    All files are read; the looks of every day read only those whose size or time changed.
    """
    found = []
    check: Callable[[], Any]
    for row in _local_models(arena):
        check = partial(_refuse_other_files, arena, row, thorough=True)
        found.append({"weights": row["name"], "state": _said(check)})
    for key in arena.rounds:
        if arena.checkpoints.manifest(key):
            check = partial(arena.checkpoints.verify, key, thorough=True)
            found.append({"weights": key, "state": _said(check)})
    return found


def _said(check: Callable[[], Any]) -> str:
    try:
        check()
    except CorruptCheckpoint as corrupt:
        return str(corrupt)
    return "ok"
