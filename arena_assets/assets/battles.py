"""The battles of a round: who the target is, what everybody answered, and how the judge saw it."""

import dagster as dg
import pyarrow as pa

from arena_assets.assets.metadata import table_metadata
from arena_assets.config import Judge as JudgeSettings
from arena_assets.config import LLMJudge
from arena_assets.generation.contestants import Contestant, Weights
from arena_assets.generation.engines import Engine, open_engine
from arena_assets.generation.responses import Prompt, respond
from arena_assets.generation.responses import open_store as open_response_store
from arena_assets.judging.active import judge_actively
from arena_assets.judging.games import Judge, judge_games, pair_up
from arena_assets.judging.games import open_store as open_judgment_store
from arena_assets.judging.judges import LanguageModelJudge, Verifier
from arena_assets.lineage import (
    BrokenChain,
    arena_contestants,
    models,
    round_contestants,
    target_of,
)
from arena_assets.partitions import rounds_partitions
from arena_assets.resources import ArenaResource
from arena_assets.tables import TABLES


@dg.asset(group_name="flywheel", partitions_def=rounds_partitions, deps=["models"])
def target_model(context: dg.AssetExecutionContext, arena: ArenaResource) -> dg.MaterializeResult:
    """The model that fights in this round: the base model or the one promoted last."""
    try:
        target = target_of(arena, context.partition_key)
    except BrokenChain as broken:
        raise dg.Failure(str(broken), allow_retries=False) from broken
    return dg.MaterializeResult(
        metadata=target_metadata(arena, context.partition_key),
        data_version=dg.DataVersion(target.weights.digest),
    )


def target_metadata(arena: ArenaResource, key: str) -> dict[str, str]:
    """Which checkpoint a round fights with and where it came from, for the UI."""
    target = target_of(arena, key)
    return {
        "checkpoint": target.contestant,
        "promoted_after": target.promoted_after or "-",
        "model": str(target.weights.path),
        "digest": target.weights.digest,
    }


@dg.asset(
    group_name="flywheel",
    partitions_def=rounds_partitions,
    deps=[target_model, "models", "slices", "prompts_curated"],
    kinds={"vllm", "parquet"},
    description=TABLES["responses"].description,
)
def responses(context: dg.AssetExecutionContext, arena: ArenaResource) -> dg.MaterializeResult:
    key = context.partition_key
    prompts = arena.lake.query(
        """
        select prompts.prompt_id, prompts.messages, prompts.constraints
        from prompts join slices on slices.prompt_id = prompts.prompt_id
        where slices.slice = $slice order by prompts.prompt_id
        """,
        {"slice": arena.round(key).slice},
        prompts=("prompts_curated", "all"),
        slices=("slices", "all"),
    )
    contestants = _group(round_contestants, arena, key)
    return answer_all(context, arena, "responses", contestants, prompts)


@dg.asset(
    group_name="flywheel",
    partitions_def=rounds_partitions,
    deps=[responses, "prompts_curated", "models"],
    kinds={"parquet"},
    description=TABLES["judgments"].description,
)
def judgments(context: dg.AssetExecutionContext, arena: ArenaResource) -> dg.MaterializeResult:
    return judge_all(context, arena, "judgments", "responses", shadows=True)


@dg.asset(
    group_name="arena",
    partitions_def=rounds_partitions,
    deps=["checkpoint", "models", "arena_testset", "prompts_curated"],
    kinds={"vllm", "parquet"},
    description="One row per test prompt and contestant: base, checkpoints, opponents.",
)
def arena_responses(
    context: dg.AssetExecutionContext, arena: ArenaResource
) -> dg.MaterializeResult:
    prompts = arena.lake.query(
        """
        select prompts.prompt_id, prompts.messages, prompts.constraints
        from prompts join testset on testset.prompt_id = prompts.prompt_id
        order by prompts.prompt_id
        """,
        prompts=("prompts_curated", "all"),
        testset=("arena_testset", "all"),
    )
    contestants = _group(arena_contestants, arena, context.partition_key)
    return answer_all(context, arena, "arena_responses", contestants, prompts)


@dg.asset(
    group_name="arena",
    partitions_def=rounds_partitions,
    deps=[arena_responses, "prompts_curated"],
    kinds={"parquet"},
    description="One row per game on the arena test set.",
)
def arena_judgments(
    context: dg.AssetExecutionContext, arena: ArenaResource
) -> dg.MaterializeResult:
    return judge_all(context, arena, "arena_judgments", "arena_responses", shadows=False)


def _group(find, arena: ArenaResource, key: str) -> list[Contestant]:
    """Contestants grouped by weights, so that each engine is opened once.

    Groups keep their order: the newest checkpoint answers last in the arena and, promoted, first
    in the next round, with its engine still open.
    """
    try:
        contestants = find(arena, key)
    except BrokenChain as broken:
        raise dg.Failure(str(broken), allow_retries=False) from broken
    digests = [
        contestant.weights.digest if contestant.weights else "" for contestant in contestants
    ]
    by_weights = zip(digests, contestants, strict=True)
    return [contestant for _, contestant in sorted(by_weights, key=lambda p: digests.index(p[0]))]


def answer_all(
    context: dg.AssetExecutionContext,
    arena: ArenaResource,
    table: str,
    contestants: list[Contestant],
    prompts: pa.Table,
) -> dg.MaterializeResult:
    """Let every contestant answer every prompt; what is in the store is reused."""
    key, settings = context.partition_key, arena.arena
    asked = [Prompt(**row) for row in prompts.to_pylist()]
    store = open_response_store(arena.lake.root)
    rows, generated, tokens, seconds = [], 0, 0, 0.0
    for contestant in contestants:
        answers, progress = respond(
            contestant,
            asked,
            store,
            lambda contestant=contestant: _engine(arena, contestant.weights),
            settings.seed,
            settings.generation.batch,
            context.log.info,
        )
        context.log.info(
            f"{contestant.name}: {progress.generated} generated, {progress.found} found, "
            f"{progress.tokens_per_second:.0f} tokens/s"
        )
        rows += [{"round": key, **answer} for answer in answers]
        generated += progress.generated
        tokens += progress.completion_tokens
        seconds += progress.seconds
    written = arena.lake.write(table, rows, key)
    return dg.MaterializeResult(
        metadata=table_metadata(
            written,
            generated=generated,
            reused=len(rows) - generated,
            completion_tokens=tokens,
            tokens_per_second=round(tokens / seconds, 1) if seconds else 0.0,
            contestants=", ".join(contestant.name for contestant in contestants),
        ),
        data_version=dg.DataVersion(arena.lake.digest(table, key)),
    )


def judge_all(
    context: dg.AssetExecutionContext,
    arena: ArenaResource,
    table: str,
    responses: str,
    shadows: bool,
) -> dg.MaterializeResult:
    """Let the deciding judge see every game, and shadow judges a sample of them."""
    key, settings, lake = context.partition_key, arena.arena, arena.lake
    answers, prompts = lake.read(responses, key), lake.read("prompts_curated")
    store = open_judgment_store(lake.root)
    panel = [("deciding", settings.judge, None)]
    if shadows:
        panel += [("shadow", shadow.judge, shadow.battles) for shadow in settings.shadow_judges]
    rows, judged = [], {}
    for role, judge_settings, battles in panel:
        judge = _judge(arena, judge_settings)
        games = pair_up(answers, prompts, battles, settings.seed)
        log, batch = context.log.info, settings.generation.batch
        active = settings.ratings.sampling
        if active and not shadows:
            found, anew = judge_actively(judge, games, store, active, settings.seed, batch, log)
        else:
            found, anew = judge_games(judge, games, store, batch, log)
        rows += [{"round": key, "role": role, **row} for row in found]
        judged[judge.name] = anew
        context.log.info(f"{judge.name}: {anew} games judged, {len(found) - anew} found")
    written = lake.write(table, rows, key)
    failed = sum(row["status"] == "failed" for row in rows)
    return dg.MaterializeResult(
        metadata=table_metadata(
            written,
            judged=sum(judged.values()),
            reused=len(rows) - sum(judged.values()),
            failed=failed,
            failed_rate=round(failed / len(rows), 4) if rows else 0.0,
        ),
        data_version=dg.DataVersion(lake.digest(table, key)),
    )


def _judge(arena: ArenaResource, settings: JudgeSettings) -> Judge:
    if not isinstance(settings, LLMJudge):
        return Verifier(settings.name)
    weights = models(arena)[settings.model]
    return LanguageModelJudge(settings, weights, lambda: _engine(arena, weights))


def _engine(arena: ArenaResource, weights: Weights) -> Engine:
    settings = {**arena.arena.generation.engine, "trust_remote_code": weights.trust_remote_code}
    return open_engine(weights.path, arena.arena.seed, settings)
