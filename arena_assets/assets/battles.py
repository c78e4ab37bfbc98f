"""The battles of a round: who the target is, what everybody answered, and how the judge saw it."""

from functools import partial

import dagster as dg
import pyarrow as pa
from pydantic import Field

from arena_assets.assets.declaration import declare
from arena_assets.assets.metadata import markdown_table, publish
from arena_assets.assets.records import recorded
from arena_assets.curation.testset import testset_prompts
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.handover import (
    arena_contestants,
    round_contestants,
    round_prompts,
    target_of,
)
from arena_assets.flywheel.weights import BrokenChain, models
from arena_assets.generation.contestants import Contestant, by_model
from arena_assets.generation.responses import Setting, respond
from arena_assets.judging.outcome import counted_failures, counted_games
from arena_assets.judging.panel import (
    Member,
    judge_round,
    members_of_arena,
    members_of_round,
    read_shadow_judge,
)
from arena_assets.lake.lake import NotWritable
from arena_assets.models.engine import BackendDown
from arena_assets.training.checkpoints import CorruptCheckpoint


def assets(rounds: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """What Dagster is told of these assets."""
    flywheel = partial(declare, group_name="flywheel", partitions_def=rounds)
    arena = partial(declare, group_name="arena", partitions_def=rounds)
    return [
        flywheel(target_model, deps=["models"]),
        flywheel(
            responses,
            deps=["target_model", "models", "slices", "prompts_curated"],
            kinds={"vllm", "parquet"},
        ),
        flywheel(judgments, deps=["responses", "prompts_curated", "models"], kinds={"parquet"}),
        arena(
            arena_responses,
            deps=["checkpoint", "models", "arena_testset", "prompts_curated"],
            kinds={"vllm", "parquet"},
            description="One row per test prompt and contestant: base, checkpoints, opponents.",
        ),
        arena(
            arena_judgments,
            deps=["arena_responses", "prompts_curated", "models"],
            kinds={"parquet"},
            description="One row per game on the arena test set.",
        ),
    ]


def target_model(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    """The model that fights in this round: the base model or the one promoted last."""
    try:
        target = target_of(arena, context.partition_key)
    except (BrokenChain, CorruptCheckpoint) as broken:
        raise dg.Failure(str(broken), allow_retries=False) from broken
    return dg.MaterializeResult(
        metadata=target_metadata(
            target.contestant,
            target.promoted_after,
            str(target.model.path),
            target.model.digest,
            target.reason,
        ),
        data_version=dg.DataVersion(target.model.digest),
    )


def target_metadata(
    contestant: str, promoted_after: str | None, model: str, digest: str, reason: str | None
) -> dict[str, str]:
    """Which checkpoint a round fights with, where it came from and who says so, for the UI."""
    return {
        "checkpoint": contestant,
        "promoted_after": promoted_after or "-",
        "model": model,
        "digest": digest,
        "reason": reason or "-",
    }


@recorded
def responses(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    key = context.partition_key
    prompts = round_prompts(arena, key)
    contestants = by_model(round_contestants(arena, key))
    return answer_all(context, arena, "responses", contestants, prompts)


class Rejudge(dg.Config):
    """Another judge over the stored responses, beside those of the profile."""

    judge: str = Field("", description="YAML of a shadow judge: judge, battles (left out: all)")


@recorded
def judgments(
    context: dg.AssetExecutionContext, config: Rejudge, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    more = [read_shadow_judge(config.judge, arena.profile)] if config.judge else []
    members = members_of_round(arena.profile, models(arena), arena.open_engine, more)
    return judge_and_report(context, arena, "judgments", "responses", members)


@recorded
def arena_responses(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    prompts = testset_prompts(arena.lake)
    contestants = by_model(arena_contestants(arena, context.partition_key))
    return answer_all(context, arena, "arena_responses", contestants, prompts)


@recorded
def arena_judgments(
    context: dg.AssetExecutionContext, arena: dg.ResourceParam[Arena]
) -> dg.MaterializeResult:
    members = members_of_arena(arena.profile, models(arena), arena.open_engine)
    return judge_and_report(
        context, arena, "arena_judgments", "arena_responses", members, active=True
    )


def answer_all(
    context: dg.AssetExecutionContext,
    arena: Arena,
    table: str,
    contestants: list[Contestant],
    prompts: pa.Table,
) -> dg.MaterializeResult:
    """Let every contestant answer every prompt; what is in the store is reused."""
    key, generation = context.partition_key, arena.profile.generation
    setting = Setting(
        arena.open_engine,
        arena.profile.seed,
        generation.batch,
        context.log.info,
    )
    try:
        progress = respond(arena.lake, table, key, prompts, contestants, setting)
    except (BackendDown, NotWritable) as down:
        raise dg.Failure(f"{table} {key}: {down}", allow_retries=False) from down
    failed, refused = (
        {name: count for name, count in counted.items() if count}
        for counted in (progress.failed, progress.refused)
    )
    return publish(
        arena,
        table,
        key,
        generated=progress.generated,
        reused=progress.found,
        failed=sum(failed.values()),
        failed_by_contestant=failed,
        refused_by_contestant=refused,
        completion_tokens=progress.completion_tokens,
        tokens_per_second=progress.tokens_per_second,
        contestants=", ".join(contestant.name for contestant in contestants),
    )


def judge_and_report(
    context: dg.AssetExecutionContext,
    arena: Arena,
    table: str,
    responses: str,
    members: list[Member],
    active: bool = False,
) -> dg.MaterializeResult:
    """Judge a partition; metadata says what was judged anew and how often it failed, and why."""
    key, lake = context.partition_key, arena.lake
    try:
        judged = judge_round(
            lake, table, responses, key, members, arena.profile, context.log.info, active
        )
    except (BackendDown, NotWritable) as down:
        raise dg.Failure(f"{table} {key}: {down}", allow_retries=False) from down
    anew = sum(judged.values())
    counted = counted_games(lake, table, key)
    failures = counted_failures(lake, table, key)
    return publish(
        arena,
        table,
        key,
        judged=anew,
        reused=counted["games"] - anew - counted["abstained"],
        failed=counted["failed"],
        failed_rate=round(counted["failed_rate"], 4),
        failures=dg.MetadataValue.md(markdown_table(failures)),
    )
