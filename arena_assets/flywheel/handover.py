"""Which model fights in a round, and who else; a chain with a missing or outdated link is refused.

Dagster forbids cycles between assets, so a checkpoint reaches the next round through the promotions
table, which is read back here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from arena_assets.config.rounds import BASE, until
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.group import best_rated, group_of_arena, group_of_round, promoted
from arena_assets.flywheel.state import state_of
from arena_assets.flywheel.weights import (
    BrokenChain,
    adapter_over,
    base_of,
    local_engine,
    models,
    trusts_target,
)
from arena_assets.generation.contestants import Contestant
from arena_assets.models.model import Local


@dataclass(frozen=True)
class TargetModel:
    """The model that fights in a round, the round that promoted it, and why."""

    contestant: str
    model: Local
    promoted_after: str | None
    reason: str | None = None  # a person's decision, where one took it


def target_of(arena: Arena, key: str) -> TargetModel:
    """The target of a round. Raises BrokenChain where the round before has not promoted a model."""
    previous = arena.round(key).previous
    if previous is None:
        return base_target(arena)
    row = promoted(arena, previous)
    if row is None:
        raise BrokenChain(
            f"Round {key} fights with the model that round {previous} promotes, and {previous} "
            f"has not promoted one yet: materialize round {previous} first."
        )
    name, digest = row["contestant"], row["model_digest"]
    if row["waiting"]:
        raise BrokenChain(
            f"Round {key} fights with the model that round {previous} promotes, and {previous} "
            f"waits for a person's {row['waiting']} of {name}: `arena models approve {previous}`."
        )
    if name == BASE:
        target = base_target(arena, previous)
    else:
        _refuse_other_checkpoint(arena, key, name, digest)
        target = TargetModel(name, checkpoint_weights(arena, name, digest), previous)
    target = replace(target, reason=row["reason"])
    state = state_of(arena, previous)
    if state.first:
        partition = state.first[1]
        again = partition if partition in arena.rounds else f"{state.why}, then {previous},"
        raise BrokenChain(
            f"Round {key} fights with the model that round {previous} promoted, but {previous} is "
            f"out of date (first of all {state.why}): materialize {again} again."
        )
    return target


def _refuse_other_checkpoint(arena: Arena, key: str, name: str, digest: str) -> None:
    manifest = arena.checkpoints.manifest(name)
    if manifest is None or manifest.digest != digest:
        state = "is missing" if manifest is None else "is not the one that was promoted"
        raise BrokenChain(
            f"Round {key} fights with checkpoint {name}, promoted by round "
            f"{arena.round(key).previous}, but the checkpoint in {arena.checkpoints.path(name)} "
            f"{state}: materialize {name} again, then the rounds after it."
        )


def base_target(arena: Arena, promoted_after: str | None = None) -> TargetModel:
    """The base model as a target."""
    return TargetModel(BASE, base_of(arena, models(arena)), promoted_after)


def parent_of(arena: Arena, key: str) -> TargetModel:
    """The model that a round trains from, by its recipe.

    Raises BrokenChain where the round before is missing or out of date.
    """
    round_ = arena.round(key)
    rule, previous = round_.settings.trains_from, round_.previous
    if rule == "base" or previous is None:
        return base_target(arena)
    fighter = target_of(arena, key)  # so the round before is done
    if rule == "fighter":
        return fighter
    name = previous if rule == "last" else best_rated(arena, previous)
    if name == BASE:
        return base_target(arena)
    assert name, f"{previous} is done, so somebody was rated"
    return TargetModel(
        name, checkpoint_weights(arena, name, arena.checkpoints.verify(name).digest), None
    )


def checkpoint_weights(arena: Arena, name: str, digest: str) -> Local:
    """A checkpoint needs the code of the weights it was trained from; it has their template.

    Raises CorruptCheckpoint where its files are not those that were committed, BrokenChain where it
    is an adapter of other weights than the profile's.
    """
    belongs_to = arena.checkpoints.verify(name).base_digest
    path, trusted = arena.checkpoints.current(name), trusts_target(arena.profile)
    if belongs_to:
        base = base_of(arena, models(arena))
        if base.digest != belongs_to:
            raise BrokenChain(
                f"Checkpoint {name} is an adapter of weights with digest {belongs_to[:12]}, and "
                f"models.{arena.profile.target.model} has {base.digest[:12]}: materialize {name} "
                "again, then the rounds after it."
            )
        return adapter_over(base, name, path, digest)
    return Local(name, path, digest, trusted, engine_settings=local_engine(arena))


def round_contestants(arena: Arena, key: str) -> list[Contestant]:
    """The group of a round, as its recipe says."""
    target = target_of(arena, key)
    return group_of_round(arena, key, target.contestant, target.model, models(arena))


def arena_contestants(arena: Arena, key: str) -> list[Contestant]:
    """Who meets after a round: the base model, every checkpoint so far, the opponents of then."""
    known, checkpoints = models(arena), {}
    for done in until(arena.rounds, key):
        manifest = arena.checkpoints.manifest(done)
        if manifest is None:
            raise BrokenChain(
                f"The arena after round {key} needs checkpoint {done}, which is not there: "
                f"materialize round {done} first."
            )
        checkpoints[done] = checkpoint_weights(arena, done, manifest.digest)
    return group_of_arena(arena, key, checkpoints, known)


def round_prompts(arena: Arena, key: str) -> pa.Table:
    """The prompts that a round fights over: prompt_id, messages, constraints.

    Raises BrokenChain where its slice lacks prompts: they changed after it was drawn.
    """
    name, tables = arena.round(key).slice, ("slices", "prompts_curated")
    found = arena.lake.query(
        """
        select slices.prompt_id, messages, constraints
        from slices left join prompts_curated using (prompt_id)
        where slice = $slice order by slices.prompt_id
        """,
        {"slice": name},
        **{table: (table, "all") for table in tables},
    )
    there = found.filter(pc.is_valid(found["messages"]))
    wanted = arena.profile.prompts.slices.rows or found.num_rows
    if not there.num_rows or there.num_rows < wanted:
        raise BrokenChain(
            f"Round {key} fights over slice {name}, which has {there.num_rows} of its {wanted} "
            "prompts: they changed after it was drawn. Materialize the prompts and slices again "
            "(`arena run` does)."
        )
    return there
