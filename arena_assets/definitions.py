"""Where everything meets: assets, checks, jobs, the sensor and the resources of one arena."""

from __future__ import annotations

import dagster as dg

from arena_assets.assets import audit, battles, consistency, curation, prompts, ratings, training
from arena_assets.assets.dbt import arena_dbt
from arena_assets.automation import advance_rounds
from arena_assets.checks.expectations import expectation_checks
from arena_assets.console import console_logger
from arena_assets.partitions import ARENA, rounds_partitions, sources_partitions
from arena_assets.resources import arena_resource

collect_job = dg.define_asset_job(
    "collect",
    selection=dg.AssetSelection.assets("prompts", "quarantine"),
    partitions_def=sources_partitions,
    description="Read one source of prompts.",
)
prepare_job = dg.define_asset_job(
    "prepare",
    selection=dg.AssetSelection.groups("models", "prompts")
    - dg.AssetSelection.assets("prompts", "quarantine"),
    description="Fetch the weights, curate the prompts, draw slices and the arena test set.",
)
round_job = dg.define_asset_job(
    "turn_round",
    selection=dg.AssetSelection.groups("flywheel", "arena", "reports"),
    partitions_def=rounds_partitions,
    description="Turn the wheel by one round: battles, training, the arena, the promotion.",
)

rejudge_job = dg.define_asset_job(
    "rejudge",
    selection=dg.AssetSelection.assets("judgments", "battles", "judge_audit"),
    partitions_def=rounds_partitions,
    description="Judge the stored responses of a round again: another judge, another template.",
)

executors = {
    # one process: weights that several assets use are loaded once
    "in_process": dg.in_process_executor,
    # a process a step: a GPU's memory is free between generation and training
    "multiprocess": dg.multiprocess_executor.configured({"max_concurrent": 1}),
}

modules = [prompts, curation, battles, audit, training, ratings]
if ARENA.ratings.reference:
    modules.append(consistency)

defs = dg.Definitions(
    assets=[*dg.load_assets_from_modules(modules), arena_dbt],
    asset_checks=expectation_checks(),
    jobs=[collect_job, prepare_job, round_job, rejudge_job],
    sensors=[advance_rounds],
    resources={"arena": arena_resource()},
    executor=executors[ARENA.executor],
    loggers={"console": console_logger},
)
