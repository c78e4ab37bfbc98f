"""What counts for tables beyond whole tables and single settings: parts, models, groups, judges.

Each is one function of a moment and a partition. A part says of which tables it is read, so that
the graph of assets can be held against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from arena_assets.config.judges import Jury
from arena_assets.config.places import resolve
from arena_assets.config.prompts import Source
from arena_assets.config.recipe import PAIR_JUDGE
from arena_assets.config.rounds import BASE, until
from arena_assets.flywheel.decisions import decision_on
from arena_assets.flywheel.group import best_rated, group_of_arena, group_of_round, promoted
from arena_assets.flywheel.moment import Moment
from arena_assets.flywheel.weights import local_engine, trusts_target
from arena_assets.generation.contestants import Contestant
from arena_assets.judging.audit import judge_prices
from arena_assets.judging.games import AwaitedJudge
from arena_assets.judging.group_reward import rewarding_judges
from arena_assets.judging.panel import Member, members_of_arena, members_of_round
from arena_assets.lake.identity import canonical, identity
from arena_assets.lake.lake import ALL
from arena_assets.models.model import Local
from arena_assets.models.weights import origin_of, package_version, served_digest
from arena_assets.reading.places import digest_of, locate
from arena_assets.training.rewards import ARENA, rewarding_code

STAGE_ROWS: Final = {  # as dbt_project/models/selection/training_set.sql takes them
    "sft": ("sft_rows",),
    "dpo": ("preference_pairs",),
    "rl": ("preference_pairs", "rl_prompts"),
}


class Input(NamedTuple):
    """What was read of a partition, as a hash or in canonical form.

    A table `rests` on the partition: where that is out of date, it is too. Of a partition that
    holds other things besides, what was read may be the same when it is made anew.
    """

    table: str
    partition: str
    said: Any
    rests: bool = True


SPLIT: Final = ("report_share", "families")  # settings of the test set that draw no prompt

Setting = Callable[[Moment, str], Any]


@dataclass(frozen=True)
class Part:
    """What is read of other tables, where that is not a whole partition of the same name."""

    tables: tuple[str, ...]
    inputs: Callable[[Moment, str], Iterable[Input]]


# -- parts of tables ---------------------------------------------------------------------------


def _sources(now: Moment, _: str) -> list[Input]:
    names = sorted(source.name for source in now.profile.prompts.sources)
    return [Input("prompts", name, now.digest("prompts", name)) for name in names]


def _fought(now: Moment, key: str) -> list[Input]:
    digest = now.slice_digest(now.arena.round(key).slice)
    return [Input("prompts_curated", ALL, digest, rests=False)]


def _tested(now: Moment, _: str) -> list[Input]:
    return [Input("prompts_curated", ALL, now.tested_digest(), rests=False)]


def _decided(now: Moment, key: str) -> list[Input]:
    return [Input("battles", key, now.decided_digest(key))]


def _learned(now: Moment, key: str) -> list[Input]:
    round_ = now.arena.round(key)
    tables = STAGE_ROWS[round_.stage]
    return [Input(t, part, now.digest(t, part)) for t in tables for part in round_.trains_on]


def _candidate_rows(now: Moment, key: str) -> list[Input]:
    """What a rule chooses from; the embeddings of prompts change with the encoder alone."""
    if selection_rule(now, key) is None:
        return []
    encoder = canonical(now.profile.prompts.encoder)
    return [
        Input("selection_candidates", key, now.digest("selection_candidates", key)),
        Input("prompt_embeddings", ALL, encoder, rests=False),
    ]


def _chosen(now: Moment, key: str) -> list[Input]:
    """What a rule chose; the pair judge needs nobody to choose."""
    if selection_rule(now, key) is None:
        return []
    return [Input("selected_candidates", key, now.digest("selected_candidates", key))]


def _boards(now: Moment, key: str) -> list[Input]:
    rounds = until(now.arena.rounds, key)
    return [Input("leaderboard", part, now.digest("leaderboard", part)) for part in rounds]


def _version(now: Moment, _: str) -> list[Input]:
    version = testset_version(now)
    return [
        Input("testset_versions", ALL, version and now.digest("testset_versions", version)),
    ]


EVERY_SOURCE: Final = Part(("prompts",), _sources)
SLICE: Final = Part(("slices", "prompts_curated"), _fought)
FOUGHT: Final = Part(("prompts_curated",), _fought)
TESTED: Final = Part(("prompts_curated",), _tested)
DECIDED: Final = Part(("battles",), _decided)
LEARNED: Final = Part(("sft_rows", "preference_pairs", "rl_prompts"), _learned)
CANDIDATE_ROWS: Final = Part(("selection_candidates", "prompt_embeddings"), _candidate_rows)
CHOSEN: Final = Part(("selected_candidates",), _chosen)
BOARDS: Final = Part(("leaderboard",), _boards)
VERSION: Final = Part(("testset_versions",), _version)


# -- models, groups and judges -----------------------------------------------------------------


def _base_digest(now: Moment) -> str | None:
    known = now.known.get(now.profile.target.model)
    return known.digest if known else None


def _handed_over(now: Moment, key: str) -> tuple[str, str | None, list[Input]]:
    """Name and digest of the model that fights in a round, and the promotion that says so."""
    previous = now.arena.round(key).previous
    if previous is None:
        return BASE, _base_digest(now), []
    row = promoted(now.arena, previous) or {"contestant": None, "model_digest": None}
    name, digest = row["contestant"], row["model_digest"]
    if name == BASE and digest != _base_digest(now):
        digest = None
    return name, digest, [Input("promotions", previous, [name, digest])]


def _fighters(now: Moment, key: str) -> list[Input]:
    name, digest, promotion = _handed_over(now, key)
    of = name if name != BASE else now.profile.target.model
    fighter = _of_digest(now, of, digest)
    group = group_of_round(now.arena, key, str(name), fighter, now.known)
    return [*promotion, _group(group, now)]


def _meeting(now: Moment, key: str) -> list[Input]:
    checkpoints = _checkpoints(now, key)
    trained = {part.partition: _of_digest(now, part.partition, part.said) for part in checkpoints}
    return [*checkpoints, _group(group_of_arena(now.arena, key, trained, now.known), now)]


def _of_digest(now: Moment, name: str | None, digest: str | None) -> Local | None:
    """The target's weights, of which the digest counts; None where they are not there yet."""
    if digest is None:
        return None
    trusted, engine = trusts_target(now.profile), local_engine(now.arena)
    return Local(str(name), Path(), digest, trusted, engine_settings=engine)


def _checkpoints(now: Moment, key: str) -> list[Input]:
    rounds = until(now.arena.rounds, key)
    return [Input("checkpoint", part, now.digest("checkpoint", part)) for part in rounds]


def _group(contestants: Sequence[Contestant], now: Moment) -> Input:
    """Contestants by name, in whatever order they stand in the profile."""
    said = {
        c.name: [
            c.model and c.key(now.profile.seed),
            c.best_of,
            c.role,
            c.model and c.model.name,
            c.system_prompt and c.system_prompt.version,
        ]
        for c in contestants
    }
    return Input("models", ALL, said, rests=False)


def _fighter(now: Moment, key: str) -> list[Input]:
    return _handed_over(now, key)[2]


def _parent(now: Moment, key: str) -> list[Input]:
    """The weights that training starts from, and what says that it is these."""
    round_ = now.arena.round(key)
    rule, previous = round_.settings.trains_from, round_.previous
    if rule == "base" or previous is None:
        return [Input("models", ALL, _base_digest(now), rests=False)]
    if rule == "fighter":
        return _handed_over(now, key)[2]
    name = previous if rule == "last" else best_rated(now.arena, previous)
    digest = _base_digest(now) if name == BASE else now.digest("checkpoint", str(name))
    said = "checkpoint" if rule == "last" else "ratings"
    return [Input(said, previous, [name, digest])]


def _candidates(now: Moment, key: str) -> list[Input]:
    return [*_checkpoints(now, key), Input("models", ALL, _base_digest(now), rests=False)]


def _deciding(now: Moment, _: str) -> list[Input]:
    return [_judges(now, members_of_arena(now.profile, now.known, now.arena.open_engine))]


def _judging_all(now: Moment, _: str) -> list[Input]:
    return [_judges(now, members_of_round(now.profile, now.known, now.arena.open_engine))]


def _judges(now: Moment, members: Sequence[Member]) -> Input:
    said = {}
    for member in members:
        judge, seat = member.judge, member.seat
        sample = member.battles and [member.battles, now.profile.seed]
        asked: list[str | None] = [None, None, None]
        if not isinstance(judge, AwaitedJudge):
            asked = [judge.key, judge.version, judge.abstains_for]
        said[judge.name] = [*asked, seat.role, seat.jury, seat.weight, sample]
    return Input("models", ALL, said, rests=False)


FIGHTERS: Final = Part(("target_model", "models"), _fighters)
MEETING: Final = Part(("checkpoint", "models"), _meeting)
FIGHTER: Final = Part(("target_model",), _fighter)
PARENT: Final = Part(("target_model", "models"), _parent)
CANDIDATES: Final = Part(("checkpoint", "models"), _candidates)
JUDGES: Final = Part(("models",), _judging_all)
DECIDING_JUDGES: Final = Part(("models",), _deciding)


# -- settings that are more than a field ---------------------------------------------------------


def origins(now: Moment, _: str) -> Any:
    """Where each model comes from; of a served one, what the servers are told."""
    return {
        name: served_digest(model.endpoint)
        if model.endpoint
        else [origin_of(model), model.trust_remote_code, package_version(model)]
        for name, model in now.profile.models.items()
    }


def source(now: Moment, name: str) -> Any:
    """How a source is read, and what is in it."""
    (found,) = (s for s in now.profile.prompts.sources if s.name == name)
    return _source(found)


def benchmarks(now: Moment, _: str) -> Any:
    """How each benchmark is read, and what is in it."""
    sources = now.profile.prompts.decontamination.benchmarks
    return {found.name: _source(found) for found in sources}


def _source(source: Source) -> Any:
    return [canonical(source.model_copy(update={"path": None})), _content(source)]


def _content(source: Source) -> Any:
    """What changes when a source does; a data set of the hub is taken as it was."""
    if source.path is None:
        return None
    try:
        if not source.remote:
            return digest_of(str(resolve(source.path)))
        infos = [shard.info() for shard in locate(source.path).shards]
    except (FileNotFoundError, ValueError):  # told by the asset that reads it
        return None
    return [[info.path, info.size, info.mtime_ns] for info in infos]


def decontamination(now: Moment, _: str) -> Any:
    """When a prompt repeats an item, without the benchmarks themselves."""
    return now.profile.prompts.decontamination.model_copy(update={"benchmarks": ()})


def rater(now: Moment, _: str) -> Any:
    """The model that rates difficulty, by its digest, and how it is asked."""
    settings = now.profile.prompts.testset.rater
    if settings is None:
        return None
    known = now.known.get(settings.model)
    # not its identity, which has versions of code: new code draws no new test set
    return settings.model_copy(update={"model": known and known.digest})


def testset(now: Moment, _: str) -> Any:
    """How the test set is drawn, without the rater and without what its prompts are for."""
    settings = now.profile.prompts.testset
    fields = type(settings).model_fields
    apart = {"rater", *SPLIT}
    return settings.model_copy(update={name: fields[name].get_default() for name in apart})


def split(now: Moment, _: str) -> Any:
    """How the test set is split into prompts that select and prompts that report."""
    settings = now.profile.prompts.testset
    return [now.profile.seed, *(getattr(settings, name) for name in SPLIT)]


def testset_identity(now: Moment, _: str = ALL) -> str:
    """What a version of the test set is drawn by; new prompts and new code draw none."""
    return identity("test set", **testset_parts(now))


def testset_parts(now: Moment, _: str = ALL) -> dict[str, Any]:
    """What that is a hash of."""
    return {
        "seed": now.profile.seed,
        "testset": testset(now, ALL),
        "rater": rater(now, ALL),
        "encoder": now.profile.prompts.encoder,
    }


def testset_version(now: Moment) -> str | None:
    """The newest version of the test set that was drawn by the present settings."""
    wanted = testset_identity(now)
    for version in reversed(now.arena.lake.partitions("testset_versions")):
        if now.arena.made_from("testset_versions", version) == wanted:
            return version
    return None


def minimum_gap(now: Moment, key: str) -> Any:
    """K of the round, where the pair judge chooses by it; other rules choose among candidates."""
    return minimum_gap_of_judge(now, key) if selection_rule(now, key) is None else None


def minimum_gap_of_judge(now: Moment, key: str) -> Any:
    """K of the round, by which candidates know how many of them the pair judge would choose."""
    return now.arena.round(key).minimum_gap


def selection_rule(now: Moment, key: str) -> Any:
    """The rule that chooses what the round learns; None where it is the pair judge."""
    rule = now.arena.round(key).settings.selection.rule
    return None if rule == PAIR_JUDGE else rule


def selection(now: Moment, key: str) -> Any:
    """How the round's rule chooses, and by which seed."""
    settings = now.arena.round(key).settings.selection
    return None if settings.rule == PAIR_JUDGE else [settings, now.recipe(key).training_seed]


def stage_training(now: Moment, key: str) -> Any:
    """How the round's stage is trained, and by which code RL rewards."""
    training, stage = now.recipe(key).training, now.arena.round(key).stage
    said = {**training.of_stage(stage), **rewarding_code(training, stage)}
    if stage == "rl" and ARENA in training.rl.rewards:
        members = members_of_arena(now.profile, now.known, now.arena.open_engine)
        said["judge"] = rewarding_judges(members, quorum(now, key) or 0)
    return said


def decided_by_people(now: Moment, key: str) -> Any:
    """What a person decided about the promotion of the round."""
    return decision_on(now.arena.lake, key)


def training_seed(now: Moment, key: str) -> Any:
    """The seed of training; that of what is drawn counts by what was drawn."""
    return now.recipe(key).training_seed


def quorum(now: Moment, _: str) -> Any:
    """The share of a jury's weight that has to give a verdict."""
    return getattr(now.profile.judge, "quorum", None)


def active_sampling(now: Moment, _: str) -> Any:
    """Which battles on the test set are judged, where not all are: a jury's first judge chooses."""
    sampling, judge = now.profile.ratings.sampling, now.profile.judge
    first = judge.members[0].judge.name if isinstance(judge, Jury) else None
    return sampling and [sampling, now.profile.seed, first]


def intervals(now: Moment, _: str) -> Any:
    """How intervals are made; resamples and their seed count where there are any."""
    ratings = now.profile.ratings
    if ratings.interval == "bootstrap":
        return [ratings.interval, ratings.bootstrap, now.profile.seed]
    return [ratings.interval, ratings.simultaneous]


def prices(now: Moment, _: str) -> Any:
    """What each judge costs."""
    return judge_prices(now.profile)
