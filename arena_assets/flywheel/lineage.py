"""Who fights in a round, with which weights, and whether a round is up to date.

Dagster forbids cycles between assets, so a checkpoint reaches the next round through the promotions
table. This module reads that table back and refuses a chain with a missing or outdated link.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from arena_assets.config.generation import changing_text
from arena_assets.config.judges import LLMJudge
from arena_assets.config.places import resolve
from arena_assets.config.profile import Profile
from arena_assets.config.prompts import Source
from arena_assets.config.rounds import BASE, until
from arena_assets.flywheel.arena import Arena
from arena_assets.generation.contestants import Contestant, opponent_contestant, target_contestant
from arena_assets.lake.identity import canonical
from arena_assets.lake.lake import ALL, Lake
from arena_assets.models.engines import Weights
from arena_assets.models.weights import origin_of, present_weights, served_digest, templated
from arena_assets.reading.places import digest_of, locate
from arena_assets.training.checkpoints import CorruptCheckpoint, verified_digest

# What a promotion rests on, round by round, each table with those above it; a test holds it against
# the graph of assets. A training set has rows of earlier rounds, the arena their checkpoints.
PROMOTED_FROM = {
    "responses": (),
    "judgments": ("responses",),
    "battles": ("judgments",),
    "sft_rows": ("battles", "responses"),
    "preference_pairs": ("battles", "responses"),
    "rl_prompts": ("battles", "responses"),
    "training_set": ("preference_pairs", "rl_prompts", "sft_rows"),
    "checkpoint": ("training_set",),
    "arena_responses": ("checkpoint",),
    "arena_judgments": ("arena_responses",),
    "arena_battles": ("arena_judgments",),
    "ratings": ("arena_battles",),
}
# what the last table of the preparation rests on, besides the prompts of every source
PREPARED_FROM = {
    "benchmarks": (),
    "dropped_unsafe": ("prompts",),
    "dropped_short": ("dropped_unsafe",),
    "dropped_prefixes": ("dropped_short",),
    "dropped_near_duplicates": ("dropped_prefixes",),
    "prompt_embeddings": ("dropped_near_duplicates",),
    "dropped_contaminated": ("benchmarks", "dropped_near_duplicates", "prompt_embeddings"),
    "dropped_languages": ("dropped_contaminated",),
    "arena_testset": ("dropped_languages", "prompt_embeddings"),
    "dropped_near_testset": ("arena_testset", "dropped_languages", "prompt_embeddings"),
    "prompts_curated": ("arena_testset", "dropped_near_testset"),
    "slices": ("arena_testset", "prompts_curated"),
}
OUT_OF_DATE = "made from inputs of different times"  # in the place of a fingerprint


class BrokenChain(RuntimeError):
    """A round cannot start because what it builds on is missing or out of date; says what to do."""


@dataclass(frozen=True)
class TargetModel:
    """The model that fights in a round, and the round that promoted it."""

    contestant: str
    weights: Weights
    promoted_after: str | None


def known_models(arena: Arena) -> dict[str, Weights]:
    """The profile's models whose digest can be told now.

    A served model is what the profile says of it. Other weights are those that the `models` asset
    found, as long as the profile names the same origin; what is missing here has to be found anew.
    """
    lake, known = arena.lake, {}
    found = lake.read("models").to_pylist() if lake.exists("models") else []
    rows = {(row["name"], row["origin"]): row for row in found}
    for name, model in arena.profile.models.items():
        row = rows.get((name, origin_of(model)))
        if model.endpoint:
            path, digest = None, served_digest(model.endpoint)
        elif row:
            path = present_weights(model, arena.models_cache, name, row["path"])
            digest = row["digest"]
        else:
            continue
        known[name] = Weights(
            name,
            path,
            templated(digest, model.chat_template),
            model.trust_remote_code,
            model.chat_template,
            model.endpoint,
            engine={} if model.endpoint else _engine(arena),
        )
    return known


def models(arena: Arena) -> dict[str, Weights]:
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


def target_of(arena: Arena, key: str) -> TargetModel:
    """The target of a round. Raises BrokenChain where the round before has not promoted a model."""
    previous = arena.round(key).previous
    if previous is None:
        return TargetModel(BASE, models(arena)[arena.profile.target.model], None)
    if not arena.lake.exists("promotions", previous):
        raise BrokenChain(
            f"Round {key} fights with the model that round {previous} promotes, and {previous} "
            f"has not promoted one yet: materialize round {previous} first."
        )
    if arena.lake.fingerprint("promotions", previous) != round_fingerprint(arena, previous):
        raise BrokenChain(
            f"Round {key} fights with the model that round {previous} promoted, but {previous} is "
            "out of date (its prompts, settings or an earlier round changed): materialize "
            f"{previous} again."
        )
    (promoted,) = arena.lake.read("promotions", previous).to_pylist()
    name = promoted["contestant"]
    if name == BASE:
        return TargetModel(BASE, models(arena)[arena.profile.target.model], previous)
    manifest = arena.checkpoints.manifest(name)
    if manifest is None or manifest.digest != promoted["model_digest"]:
        state = "is missing" if manifest is None else "is not the one that was promoted"
        raise BrokenChain(
            f"Round {key} fights with checkpoint {name}, promoted by round {previous}, but the "
            f"checkpoint in {arena.checkpoints.path(name)} {state}: materialize {name} again, "
            f"then the rounds after it up to {previous}."
        )
    return TargetModel(name, _checkpoint_weights(arena, name, manifest.digest), previous)


def _checkpoint_weights(arena: Arena, name: str, digest: str) -> Weights:
    """A checkpoint needs the code of the weights it was trained from; it has their template.

    Raises CorruptCheckpoint where its files are not those that were committed.
    """
    arena.checkpoints.verify(name)
    trusted = arena.profile.models[arena.profile.target.model].trust_remote_code
    path = arena.checkpoints.current(name)
    return Weights(name, path, digest, trusted, engine=_engine(arena))


def _engine(arena: Arena) -> dict[str, Any]:
    """The settings of vLLM here that are part of what a model says."""
    return changing_text(arena.profile.generation.engine)


def round_contestants(arena: Arena, key: str) -> list[Contestant]:
    """The group of a round: the target first, then every opponent."""
    target = target_of(arena, key)
    fighter = target_contestant(arena.profile.target, target.contestant, target.weights)
    return [fighter, *_opponents(arena)]


def arena_contestants(arena: Arena, key: str) -> list[Contestant]:
    """Who meets after a round: the base model, every checkpoint so far, all opponents."""
    settings, known = arena.profile.target, models(arena)
    contestants = [target_contestant(settings, BASE, known[settings.model])]
    for done in until(arena.rounds, key):
        manifest = arena.checkpoints.manifest(done)
        if manifest is None:
            raise BrokenChain(
                f"The arena after round {key} needs checkpoint {done}, which is not there: "
                f"materialize round {done} first."
            )
        weights = _checkpoint_weights(arena, done, manifest.digest)
        contestants.append(target_contestant(settings, done, weights))
    return contestants + _opponents(arena)


def _opponents(arena: Arena) -> list[Contestant]:
    known = models(arena)
    return [
        opponent_contestant(
            opponent,
            known[opponent.model] if opponent.model else recording(opponent.recorded),
        )
        for opponent in arena.profile.opponents
    ]


def recording(path: str) -> Weights:
    """A file of recorded answers in the place of weights."""
    return Weights("recorded", resolve(path), _file_digest(path), recorded=True)


def prompts_fingerprint(profile: Profile) -> str:
    """What prompts are made from: their settings and the content of sources and benchmarks."""
    settings = profile.model_dump(mode="json", include={"seed", "prompts"})
    settings["models"] = canonical(profile.models)
    sources = [*profile.prompts.sources, *profile.prompts.decontamination.benchmarks]
    unsafe, rater = profile.prompts.unsafe, profile.prompts.testset.rater
    files = [unsafe.lexicon if unsafe else None, rater.template if rater else None]
    files += [model.chat_template for model in profile.models.values()]
    return _hash(
        settings,
        [_source_state(source) for source in sources],
        [_file_digest(file) for file in files if file],
    )


def _source_state(source: Source) -> Any:
    """What changes when a source does; a data set of the hub is taken as it was."""
    if source.path is None:
        return None
    if source.remote:
        infos = [shard.info() for shard in locate(source.path).shards]
        return [[info.path, info.size, info.mtime_ns] for info in infos]
    try:
        return _file_digest(source.path)
    except FileNotFoundError:  # told by the asset that reads it
        return None


def testset_fingerprint(profile: Profile) -> str:
    """What a version of the test set is made from. New prompts alone make no new version."""
    prompts = profile.prompts
    rater = prompts.testset.rater
    return _hash(
        profile.seed,
        prompts.testset.model_dump(mode="json"),
        prompts.encoder.model_dump(mode="json", exclude={"batch"}),
        canonical(profile.models[rater.model]) if rater else None,
    )


def testset_version(arena: Arena) -> str:
    """The name of the current version of the test set."""
    return arena.lake.read("arena_testset", columns=["version"])["version"][0].as_py()


def settled_prompts(arena: Arena) -> list[str]:
    """The prompts of the frozen test set: others that repeat them give way."""
    if arena.lake.fingerprint("arena_testset") != testset_fingerprint(arena.profile):
        return []
    testset = arena.lake.read("arena_testset", columns=["prompt_id"])
    return sorted(testset["prompt_id"].to_pylist())


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


def slice_digest(arena: Arena, name: str) -> str | None:
    """A hash of the prompts of a slice, as they are in the lake; None before it was drawn."""
    lake = arena.lake
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


def round_fingerprint(arena: Arena, key: str) -> str:
    """What a round is made from: its slice, the test set, settings and all rounds before it, with
    the model that the last of them promoted.

    Same fingerprint, same inputs: such a round needs no second turn, also when prompts were added
    that went into other slices.
    """
    profile, round_ = arena.profile, arena.round(key)
    settings = profile.model_dump(
        mode="json",
        include={
            "seed",
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
    settings["models"] = canonical(profile.models)
    files = [profile.target.system_prompt]
    for opponent in profile.opponents:
        files += [opponent.system_prompt, opponent.recorded]
    files += [judge.template for judge in profile.single_judges if isinstance(judge, LLMJudge)]
    files += [model.chat_template for model in profile.models.values()]
    weights = []
    if arena.lake.exists("models"):
        rows = arena.lake.read("models", columns=["name", "digest"]).to_pylist()
        weights = sorted([r["name"], r["digest"]] for r in rows if r["name"] in profile.models)
    return _hash(
        slice_digest(arena, round_.slice),
        testset_fingerprint(profile),
        settings,
        weights,
        [_file_digest(file) for file in files if file],
        profile.rounds[key].model_dump(mode="json"),
        round_fingerprint(arena, round_.previous) if round_.previous else None,
        _promoted(arena, round_.previous) if round_.previous else None,
    )


def _promoted(arena: Arena, key: str) -> list[str] | None:
    """Who was promoted after a round, with the digest of its weights; None where nobody was."""
    if arena.lake.fingerprint("promotions", key) is None:
        return None
    (row,) = arena.lake.read("promotions", key).to_pylist()
    return [row["contestant"], row["model_digest"]]


def inputs_fingerprint(
    arena: Arena,
    table: str,
    partition: str,
    settings: str | None = None,
    known: Mapping[str, str | None] = MappingProxyType({}),
) -> str:
    """What a table of the preparation, of a source or of a round is made from.

    That is the settings and files of its partition, and the tables above it as they are: one that
    was made before those above it were replaced is not of the present. `settings` (default: those
    now) and the digests that are `known` of tables of the partition are those of an earlier moment.
    """
    above = []
    for name, part in _above(arena, table, partition):
        earlier = part == partition and name in known
        above.append([name, part, known[name] if earlier else arena.digest(name, part)])
    return _hash(settings or settings_fingerprint(arena, partition), above)


def settings_fingerprint(arena: Arena, partition: str) -> str:
    """The settings and files that all tables of a partition are made from."""
    if partition == ALL:
        return prompts_fingerprint(arena.profile)
    if partition in arena.rounds:
        return round_fingerprint(arena, partition)
    (source,) = (s for s in arena.profile.prompts.sources if s.name == partition)
    return _hash(source.model_dump(mode="json"), _source_state(source))


def _above(arena: Arena, table: str, partition: str) -> Iterator[tuple[str, str]]:
    """The partitions that one is made from; what stands in none of both lists has none."""
    for name in (PREPARED_FROM | PROMOTED_FROM).get(table, ()):
        parts = [partition]
        if name == "prompts":
            parts = [source.name for source in arena.profile.prompts.sources]
        elif table == "training_set":
            parts = list(arena.round(partition).trains_on)
        elif table == "arena_responses":
            parts = until(arena.rounds, partition)
        yield from ((name, part) for part in parts)


def outdated(arena: Arena, tables: Iterable[str], partition: str) -> list[str]:
    """Those of the tables that were not made from the present inputs, or are missing."""
    settings = settings_fingerprint(arena, partition)
    return [
        table
        for table in tables
        if arena.made_from(table, partition)
        != inputs_fingerprint(arena, table, partition, settings)
    ]


def outdated_preparation(arena: Arena) -> list[str]:
    """The tables that slices and test set rest on and that were not made from present inputs."""
    old = outdated(arena, PREPARED_FROM, ALL)
    for source in arena.profile.prompts.sources:
        if outdated(arena, ["prompts"], source.name):
            old.append(f"prompts of {source.name}")
    return old


def state_of(arena: Arena, key: str) -> str:
    """done, out of date or missing."""
    fingerprint = arena.lake.fingerprint("promotions", key)
    if fingerprint is None:
        return "missing"
    return "done" if fingerprint == round_fingerprint(arena, key) else "out of date"


def _file_digest(path: str) -> str:
    return digest_of(str(resolve(path)))


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
