"""Where everything meets: assets, checks, jobs, the sensor and the resources of one arena."""

from __future__ import annotations

import dagster as dg

from arena_assets.assets import (
    audit,
    battles,
    consistency,
    curation,
    dbt,
    prompts,
    ratings,
    rollouts,
    selection,
    training,
)
from arena_assets.assets.automation import advance_rounds
from arena_assets.assets.console import console_logger
from arena_assets.assets.partitions import rounds_of, sources_of
from arena_assets.assets.resource import resource_of
from arena_assets.checks.expectations import expectation_checks
from arena_assets.checks.reward_models import reward_model_check
from arena_assets.flywheel.arena import Arena, open_arena

_EXECUTORS = {
    # one process: weights that several assets use are loaded once
    "in_process": dg.in_process_executor,
    # a process a step: a GPU's memory is free between generation and training
    "multiprocess": dg.multiprocess_executor.configured({"max_concurrent": 1}),
}


def definitions(arena: Arena) -> dg.Definitions:
    """All that Dagster is told of an arena."""
    rounds, sources = rounds_of(arena.profile), sources_of(arena.profile)
    assets = [*prompts.assets(sources), *curation.assets()]
    for module in (battles, dbt, selection, audit, training, rollouts, ratings):
        assets += module.assets(rounds)
    if arena.profile.ratings.reference:
        assets += consistency.assets(rounds)
    return dg.Definitions(
        assets=assets,
        asset_checks=[
            *expectation_checks(arena.profile, rounds, sources),
            reward_model_check(rounds),
        ],
        jobs=_jobs(rounds, sources),
        sensors=[advance_rounds],
        resources={"arena": resource_of(arena)},
        executor=_EXECUTORS[arena.profile.executor],
        loggers={"console": console_logger},
    )


def _jobs(
    rounds: dg.PartitionsDefinition, sources: dg.PartitionsDefinition
) -> list[dg.UnresolvedAssetJobDefinition]:
    collected = dg.AssetSelection.assets("prompts", "quarantine")
    return [
        dg.define_asset_job(
            "collect",
            selection=collected,
            partitions_def=sources,
            description="Read one source of prompts.",
        ),
        dg.define_asset_job(
            "prepare",
            selection=dg.AssetSelection.groups("models", "prompts") - collected,
            description="Fetch the weights, curate the prompts, draw slices and the test set.",
        ),
        dg.define_asset_job(
            "turn_round",
            selection=dg.AssetSelection.groups("flywheel", "arena", "reports"),
            partitions_def=rounds,
            description="Turn the wheel by one round: battles, training, the arena, the promotion.",
        ),
        dg.define_asset_job(
            "rejudge",
            selection=dg.AssetSelection.assets("judgments", "battles", "judge_audit"),
            partitions_def=rounds,
            description="Judge the stored responses again: another judge, another template.",
        ),
    ]


# what `dagster dev` and `dagster definitions validate` load: the arena of ARENA_PROFILE
defs = definitions(open_arena())
