"""Every model that the arena has made, and the base model: what it is, how it fares, is it whole.

A name is `base`, the key of the round that trained a checkpoint, `promoted` (who fights next), or
the first digits of a digest. Figures belong to weights, not to names: a rating or a battle counts
for a checkpoint only where the lake says that the same digest fought.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow.compute as pc

from arena_assets.config.rounds import BASE, ROUND_KEY
from arena_assets.curation.split import REPORTS
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.group import promoted
from arena_assets.flywheel.weights import base_of, known_models, refuse_replaced
from arena_assets.generation.contestants import drawn_from
from arena_assets.lake.lake import MissingPartition
from arena_assets.training.checkpoints import CorruptCheckpoint, Manifest

PROMOTED: Final = "promoted"
SHORT: Final = 12  # digits of a digest that people see
State = Literal["intact", "missing", "corrupt"]
_DIGITS: Final = re.compile(r"[0-9a-f]{4,64}")


class RegistryError(RuntimeError):
    """What a person asked of the registry cannot be; says why, and what would be right."""


@dataclass(frozen=True)
class Rating:
    """A rating with its 95 % interval, on the Elo scale, in the arena after a round.

    Where the test set is split, it is that of the prompts that report and choose nobody.
    """

    after: str
    rating: float
    lower: float
    upper: float
    rank: int
    battles: int


@dataclass(frozen=True)
class Entry:
    """A model of the registry as it lies there; `manifest` is None for the base model.

    `size` is in bytes, `problem` says why files that are not intact are not. `promoted`: the last
    promotion names it, so that it fights next; `promoted_after` and `fought_in` are rounds in time
    order. `ratings` are those of these very weights, newest last.
    """

    name: str
    digest: str | None
    path: Path | None
    state: State
    problem: str | None
    size: int | None
    manifest: Manifest | None
    promoted: bool
    promoted_after: tuple[str, ...]
    fought_in: tuple[str, ...]
    ratings: tuple[Rating, ...]

    @property
    def stage(self) -> str:
        """The stage that made it."""
        return self.manifest.stage if self.manifest else BASE if self.name == BASE else "-"

    @property
    def created_at(self) -> datetime | None:
        """When it was trained; of the base model nobody knows."""
        return self.manifest.created_at if self.manifest else None

    @property
    def rating(self) -> Rating | None:
        """The last rating."""
        return self.ratings[-1] if self.ratings else None


def entries(arena: Arena) -> list[Entry]:
    """The base model, then every checkpoint that the lake has or had, in time order.

    Checkpoints of rounds that the profile does not have any more are among them. A look at their
    files reads only those whose size or time changed.
    """
    seen = _Seen(arena)
    return [_base_entry(arena, seen), *(_entry(arena, key, seen) for key in _keys(arena))]


def resolve(arena: Arena, name: str) -> Entry:
    """The model of a name; RegistryError where there is none or where several could be meant."""
    there = entries(arena)
    by_name = {entry.name: entry for entry in there}
    if name in by_name:
        return by_name[name]
    if name == PROMOTED:
        return _fights_next(arena, by_name)
    wanted = name.lower()
    found = [e for e in there if e.digest and _DIGITS.fullmatch(wanted)]
    found = [entry for entry in found if str(entry.digest).startswith(wanted)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{e.name} ({e.digest[:SHORT] if e.digest else e.state})" for e in there)
    if found:
        several = ", ".join(f"{entry.name} ({entry.digest})" for entry in found)
        raise RegistryError(f"{name!r} may be {several}: write more digits, or the name")
    raise RegistryError(
        f"no model {name!r}: write a name, {PROMOTED}, or at least 4 digits of a digest (there: "
        f"{listed})"
    )


def lineage(arena: Arena, entry: Entry) -> list[dict[str, Any]]:
    """The parents of a model up to the base model: name, digest, and whether that is there still.

    `present` says of each whether the lake still has weights of that digest under that name.
    """
    parents: list[dict[str, Any]] = []
    manifest, by_name = entry.manifest, {e.name: e for e in entries(arena)}
    while manifest:
        found = by_name.get(manifest.parent)
        same = found is not None and found.digest == manifest.parent_digest
        parents.append({"name": manifest.parent, "digest": manifest.parent_digest, "present": same})
        # what was replaced has another history than the one that was trained from
        manifest = found.manifest if found and same else None
    return parents


def promoted_rounds(arena: Arena) -> list[str]:
    """The rounds of the profile after which somebody was promoted, in time order."""
    return [key for key in arena.rounds if promoted(arena, key)]


def _fights_next(arena: Arena, by_name: dict[str, Entry]) -> Entry:
    rows = [row for key in arena.rounds if (row := promoted(arena, key))]
    row = next((row for row in reversed(rows) if not row["waiting"]), None)
    if row is None:
        raise RegistryError("nobody is promoted yet: run `arena run`")
    entry = by_name.get(row["contestant"])
    if entry is None or entry.digest != row["model_digest"]:
        raise RegistryError(
            f"round {row['round']} promoted {row['contestant']} with digest "
            f"{row['model_digest'][:SHORT]}, which is not there any more: run `arena run`, or name "
            "another model"
        )
    return entry


def _keys(arena: Arena) -> list[str]:
    """The rounds that have a checkpoint, or of which it was noted that they had one."""
    there = {path.name for path in arena.checkpoints.root.glob("*")}
    names = there | set(arena.lake.recorded("checkpoints"))
    return sorted(filter(ROUND_KEY.match, names))


def _entry(arena: Arena, key: str, seen: _Seen) -> Entry:
    store, manifest, problem = arena.checkpoints, None, None
    state: State = "intact"
    try:
        manifest = store.manifest(key)
        if manifest is None:
            state, problem = "missing", f"{store.path(key)}: not there; materialize {key} again"
        else:
            store.verify(key)
    except (CorruptCheckpoint, OSError) as corrupt:
        state, problem = "corrupt", str(corrupt)
    digest = manifest.digest if manifest else None
    path = store.path(key)
    return Entry(key, digest, path, state, problem, _size(path), manifest, **seen.of(key, digest))


def _base_entry(arena: Arena, seen: _Seen) -> Entry:
    known, name = known_models(arena), arena.profile.target.model
    if name not in known:
        told = f"models.{name}: not taken in yet; run `arena run`"
        return Entry(BASE, None, None, "missing", told, None, None, **seen.of(BASE, None))
    base = base_of(arena, known)
    state: State = "intact"
    problem = None
    try:
        if base.path.is_dir():
            refuse_replaced(arena, name)
        else:
            state, problem = "missing", f"models.{name}: {base.path} is not there"
    except (CorruptCheckpoint, OSError) as corrupt:
        state, problem = "corrupt", str(corrupt)
    sighted = seen.of(BASE, base.digest)
    return Entry(BASE, base.digest, base.path, state, problem, _size(base.path), None, **sighted)


def _size(folder: Path) -> int | None:
    """Bytes of all files of a model; None where there is no folder."""
    if not folder.is_dir():
        return None
    files = (path for path in folder.resolve().rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files)


class _Seen:
    """Where weights were seen in the lake: promoted, fighting, rated; each table is read once."""

    def __init__(self, arena: Arena):
        lake = arena.lake
        self._fought = dict(_met(arena, "responses"))
        self._promotions = [
            (key, row["contestant"], row["model_digest"])
            for key in lake.partitions("promotions")
            if (row := promoted(arena, key)) and not row["waiting"]
        ]
        # rounds that the profile has no more hand nothing over
        self._next = max((key for key, *_ in self._promotions if key in arena.rounds), default="-")
        self._rated: list[tuple[str, dict[str, str], list[dict[str, Any]]]] = []
        for key, met in _met(arena, "arena_responses"):
            try:
                self._rated.append((key, met, lake.read("ratings", key).to_pylist()))
            except MissingPartition:
                continue

    def of(self, name: str, digest: str | None) -> dict[str, Any]:
        """What an entry says of these weights: promotions, battles, ratings."""
        if digest is None:
            return dict.fromkeys(("promoted_after", "fought_in", "ratings"), ()) | {
                "promoted": False
            }
        columns = ("rating", "lower", "upper", "rank", "battles")
        after = tuple(key for key, *who in self._promotions if who == [name, digest])
        return {
            "promoted": self._next in after,
            "promoted_after": after,
            "fought_in": tuple(key for key, met in self._fought.items() if met.get(name) == digest),
            "ratings": tuple(
                Rating(key, *(row[column] for column in columns))
                for key, met, rows in self._rated
                for row in rows
                if row["contestant"] == name
                and met.get(name) == digest
                and row["purpose"] in REPORTS
            ),
        }


def _met(arena: Arena, table: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Of each round the targets that answered, with the digests that they had."""
    columns = ["contestant", "role", "model_digest"]
    for key in arena.lake.partitions(table):
        try:
            rows = arena.lake.read(table, key, columns)
        except MissingPartition:  # torn
            continue
        targets = rows.filter(pc.equal(rows["role"], "target")).group_by(columns).aggregate([])
        yield (
            key,
            {drawn_from(row["contestant"]): row["model_digest"] for row in targets.to_pylist()},
        )
