"""Where the minutes of the last `arena run` went, by kind of work, from Dagster's own event log.

    python benchmarks/run_time.py [--since 2026-11-25T10:00]

Model work is what waits for a model: answering, judging with a model, and the optimiser's steps.
Imports and engine starts are told apart by what the assets log ("engine ready after 5 s").
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from datetime import datetime

import dagster as dg

from arena_assets.flywheel.arena import open_arena

ENGINE = re.compile(r"engine ready after (\d+) s")
MODEL_STEPS = {"responses": "answering", "arena_responses": "answering", "judgments": "judging"}


def kind_of(step: str) -> str:
    """The kind of work of a step of Dagster."""
    if step in MODEL_STEPS:
        return MODEL_STEPS[step]
    if step.startswith("arena_dbt"):
        return "dbt"
    if step.endswith("_expectations"):
        return "Great Expectations"
    if step == "checkpoint":
        return "training: imports, loading, saving"
    return "curation" if "drop" in step or "prompt" in step else "other assets"


def seconds_by_kind(instance: dg.DagsterInstance, since: float) -> Counter[str]:
    """Seconds by kind of all runs that started after `since` (a timestamp)."""
    arena, spent = open_arena(), Counter()
    records = [r for r in instance.get_run_records() if (r.start_time or 0) >= since]
    for record in records:
        run = record.dagster_run
        steps = 0.0
        for stats in instance.get_run_step_stats(run.run_id):
            if stats.start_time and stats.end_time:
                spent[kind_of(stats.step_key)] += stats.end_time - stats.start_time
                steps += stats.end_time - stats.start_time
        spent["Dagster, between the steps"] += record.end_time - record.start_time - steps
        for event in instance.all_logs(run.run_id):
            if (found := ENGINE.search(event.user_message)) and event.step_key in MODEL_STEPS:
                spent[MODEL_STEPS[event.step_key]] -= int(found[1])
                spent["imports of vLLM and engine starts"] += int(found[1])
        key = run.tags.get("dagster/partition")
        manifest = arena.checkpoints.manifest(key) if key in arena.rounds else None
        if manifest and manifest.run_id == run.run_id:
            optimising = sum(v for k, v in manifest.metrics.items() if k.endswith("train_runtime"))
            spent["training: imports, loading, saving"] -= optimising
            spent["training: steps"] += optimising
    whole = max(r.end_time for r in records) - min(r.start_time for r in records)
    spent["start of jobs"] = whole - sum(r.end_time - r.start_time for r in records)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--since", type=datetime.fromisoformat, default=datetime(2000, 1, 1))
    since = parser.parse_args().since.timestamp()
    with dg.DagsterInstance.get() as instance:
        spent = seconds_by_kind(instance, since)
    whole = sum(spent.values())
    for kind, seconds in spent.most_common():
        print(f"{kind:36} {seconds:6.0f} s {100 * seconds / whole:5.1f} %")
    model = sum(spent[kind] for kind in ("answering", "judging", "training: steps"))
    print(f"{'whole':36} {whole:6.0f} s, model work {100 * model / whole:.0f} %")


if __name__ == "__main__":
    main()
