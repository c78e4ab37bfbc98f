"""Who fights in a round, with which weights, and whether a round is up to date.

Dagster forbids cycles between assets, so a checkpoint reaches the next round through the promotions
table. This module reads that table back and refuses a chain with a missing or outdated link.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from arena_assets.config import Arena, LLMJudge, Source, resolve
from arena_assets.curation.sources import filesystem_of
from arena_assets.generation.contestants import (
    Contestant,
    opponent_contestant,
    target_contestant,
)
from arena_assets.generation.engines import Weights
from arena_assets.resources import ArenaResource
from arena_assets.rounds import BASE, until


class BrokenChain(RuntimeError):
    """A round cannot start because what it builds on is missing or out of date; says what to do."""


@dataclass(frozen=True)
class TargetModel:
    """The model that fights in a round, and the round that promoted it."""

    contestant: str
    weights: Weights
    promoted_after: str | None


def models(resource: ArenaResource) -> dict[str, Weights]:
    """The weights of every model of the profile, as the `models` asset resolved them."""
    known = {}
    for row in resource.lake.read("models").to_pylist():
        model = resource.arena.models.get(row["name"])
        if model is None:
            continue
        known[row["name"]] = Weights(
            row["name"],
            Path(row["path"]) if row["path"] else None,
            row["digest"],
            model.trust_remote_code,
            model.chat_template,
            model.endpoint,
        )
    return known


def target_of(resource: ArenaResource, key: str) -> TargetModel:
    """The target of a round. Raises BrokenChain where the round before has not promoted a model."""
    previous = resource.round(key).previous
    if previous is None:
        return TargetModel(BASE, models(resource)[resource.arena.target.model], None)
    if not resource.lake.exists("promotions", previous):
        raise BrokenChain(
            f"Round {key} fights with the model that round {previous} promotes, and {previous} "
            f"has not promoted one yet: materialize round {previous} first."
        )
    if resource.lake.fingerprint("promotions", previous) != round_fingerprint(resource, previous):
        raise BrokenChain(
            f"Round {key} fights with the model that round {previous} promoted, but {previous} is "
            "out of date (its prompts, settings or an earlier round changed): materialize "
            f"{previous} again."
        )
    (promoted,) = resource.lake.read("promotions", previous).to_pylist()
    name, path = promoted["contestant"], Path(promoted["model"])
    if name == BASE:
        return TargetModel(BASE, models(resource)[resource.arena.target.model], previous)
    manifest = resource.checkpoints.manifest(name)
    if manifest is None or manifest.digest != promoted["model_digest"]:
        state = "is missing" if manifest is None else "is not the one that was promoted"
        raise BrokenChain(
            f"Round {key} fights with checkpoint {name}, promoted by round {previous}, but the "
            f"checkpoint in {path} {state}: materialize {name} again, then the rounds after it up "
            f"to {previous}."
        )
    return TargetModel(name, _checkpoint_weights(resource, name, manifest.digest), previous)


def _checkpoint_weights(resource: ArenaResource, name: str, digest: str) -> Weights:
    """A checkpoint needs the code of the weights it was trained from; it has their template."""
    trusted = resource.arena.models[resource.arena.target.model].trust_remote_code
    return Weights(name, resource.checkpoints.path(name), digest, trusted)


def round_contestants(resource: ArenaResource, key: str) -> list[Contestant]:
    """The group of a round: the target first, then every opponent."""
    target = target_of(resource, key)
    fighter = target_contestant(resource.arena.target, target.contestant, target.weights)
    return [fighter, *_opponents(resource)]


def arena_contestants(resource: ArenaResource, key: str) -> list[Contestant]:
    """Who meets after a round: the base model, every checkpoint so far, all opponents."""
    settings, known = resource.arena.target, models(resource)
    contestants = [target_contestant(settings, BASE, known[settings.model])]
    for done in until(resource.rounds, key):
        manifest = resource.checkpoints.manifest(done)
        if manifest is None:
            raise BrokenChain(
                f"The arena after round {key} needs checkpoint {done}, which is not there: "
                f"materialize round {done} first."
            )
        weights = _checkpoint_weights(resource, done, manifest.digest)
        contestants.append(target_contestant(settings, done, weights))
    return contestants + _opponents(resource)


def _opponents(resource: ArenaResource) -> list[Contestant]:
    known = models(resource)
    return [
        opponent_contestant(
            opponent,
            known[opponent.model] if opponent.model else recording(opponent.recorded),
        )
        for opponent in resource.arena.opponents
    ]


def recording(path: str) -> Weights:
    """A file of recorded answers in the place of weights."""
    return Weights("recorded", resolve(path), _file_digest(path), recorded=True)


def prompts_fingerprint(arena: Arena) -> str:
    """What prompts are made from: their settings and the content of sources and benchmarks."""
    settings = arena.model_dump(mode="json", include={"seed", "prompts", "models"})
    sources = [*arena.prompts.sources, *arena.prompts.decontamination.benchmarks]
    unsafe, rater = arena.prompts.unsafe, arena.prompts.testset.rater
    files = [unsafe.lexicon if unsafe else None, rater.template if rater else None]
    return _hash(
        settings,
        [_source_state(source) for source in sources],
        [_file_digest(file) for file in files if file],
    )


def _source_state(source: Source) -> Any:
    """What changes when a source does; a data set of the hub is taken as it was."""
    if source.path is None:
        return None
    if not source.remote:
        # a file that is missing is told by the asset that reads it
        return _file_digest(source.path) if resolve(source.path).exists() else None
    filesystem, inside = filesystem_of(source.path)
    info = filesystem.get_file_info(inside)
    return [info.size, info.mtime_ns]


def testset_fingerprint(arena: Arena) -> str:
    """What a version of the test set is made from. New prompts alone make no new version."""
    prompts = arena.prompts
    rater = prompts.testset.rater
    return _hash(
        arena.seed,
        prompts.testset.model_dump(mode="json"),
        prompts.encoder.model_dump(mode="json", exclude={"batch"}),
        arena.models[rater.model].model_dump(mode="json") if rater else None,
    )


def testset_version(resource: ArenaResource) -> str:
    """The name of the current version of the test set."""
    return resource.lake.read("arena_testset", columns=["version"])["version"][0].as_py()


def settled_prompts(resource: ArenaResource) -> list[str]:
    """The prompts of the frozen test set: others that repeat them give way."""
    if resource.lake.fingerprint("arena_testset") != testset_fingerprint(resource.arena):
        return []
    testset = resource.lake.read("arena_testset", columns=["prompt_id"])
    return sorted(testset["prompt_id"].to_pylist())


def round_prompts(resource: ArenaResource, key: str) -> pa.Table:
    """The prompts that a round fights over: prompt_id, messages, constraints.

    Raises BrokenChain where its slice lacks prompts: they changed after it was drawn.
    """
    name, tables = resource.round(key).slice, ("slices", "prompts_curated")
    found = resource.lake.query(
        """
        select slices.prompt_id, messages, constraints
        from slices left join prompts_curated using (prompt_id)
        where slice = $slice order by slices.prompt_id
        """,
        {"slice": name},
        **{table: (table, "all") for table in tables},
    )
    there = found.filter(pc.is_valid(found["messages"]))
    wanted = resource.arena.prompts.slices.rows or found.num_rows
    if not there.num_rows or there.num_rows < wanted:
        raise BrokenChain(
            f"Round {key} fights over slice {name}, which has {there.num_rows} of its {wanted} "
            "prompts: they changed after it was drawn. Materialize the prompts and slices again "
            "(`arena run` does)."
        )
    return there


def slice_digest(resource: ArenaResource, name: str) -> str | None:
    """A hash of the prompts of a slice, as they are in the lake; None before it was drawn."""
    lake = resource.lake
    if not (lake.exists("slices") and lake.exists("prompts_curated")):
        return None
    paths = [lake.path(table) for table in ("slices", "prompts_curated")]
    return _slice_digests(*((str(path), path.stat().st_mtime_ns) for path in paths)).get(name)


@lru_cache(maxsize=8)  # every round asks, and again for the rounds before it
def _slice_digests(slices: tuple[str, int], prompts: tuple[str, int]) -> dict[str, str]:
    import duckdb

    with duckdb.connect() as connection:
        rows = connection.execute(
            """
            select slice, md5(string_agg(md5(prompts::varchar), '' order by prompt_id))
            from read_parquet($slices) join read_parquet($prompts) as prompts using (prompt_id)
            group by slice
            """,
            {"slices": slices[0], "prompts": prompts[0]},
        ).fetchall()
    return dict(rows)


def round_fingerprint(resource: ArenaResource, key: str) -> str:
    """What a round is made from: its slice, the test set, settings and all rounds before it.

    Same fingerprint, same inputs: such a round needs no second turn, also when prompts were added
    that went into other slices.
    """
    arena, round_ = resource.arena, resource.round(key)
    settings = arena.model_dump(
        mode="json",
        include={
            "seed",
            "models",
            "target",
            "opponents",
            "judge",
            "shadow_judges",
            "battles",
            "promotion",
            "training",
            "ratings",
        },
    )
    files = [arena.target.system_prompt]
    for opponent in arena.opponents:
        files += [opponent.system_prompt, opponent.recorded]
    files += [judge.template for judge in arena.single_judges if isinstance(judge, LLMJudge)]
    return _hash(
        slice_digest(resource, round_.slice),
        testset_fingerprint(arena),
        settings,
        [_file_digest(file) for file in files if file],
        arena.rounds[key].model_dump(mode="json"),
        round_fingerprint(resource, round_.previous) if round_.previous else None,
    )


def state_of(resource: ArenaResource, key: str) -> str:
    """done, out of date or missing."""
    fingerprint = resource.lake.fingerprint("promotions", key)
    if fingerprint is None:
        return "missing"
    return "done" if fingerprint == round_fingerprint(resource, key) else "out of date"


def _file_digest(path: str) -> str:
    with resolve(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
