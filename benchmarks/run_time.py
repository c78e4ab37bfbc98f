"""Where the minutes of the last `arena run` went, by kind of work, from Dagster's own event log.

    python benchmarks/run_time.py [--since 2026-11-25T10:00] [--prefill]

Model work is what waits for a model: answering, judging with a model, the optimiser's steps and
the pass of DPO's reference. Imports and engine starts are told apart by what the assets log
("engine ready after 5 s").

vLLM computes the prompts of some answers and the next tokens of others in one step, so no clock of
it parts prefill from decode. --prefill measures prefill alone: every answer of the lake that came
from weights here is asked for again, with the same requests in the same batches and order and an
empty prefix cache, and ends after its first token. What answering took beyond that is decode, with
the little that the assets do around it.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import dagster as dg

from arena_assets.flywheel.arena import Arena, open_arena
from arena_assets.flywheel.handover import arena_contestants, round_contestants
from arena_assets.generation.contestants import Contestant, by_model
from arena_assets.models.dialogue import with_answers
from arena_assets.models.engine import Engine, Request
from arena_assets.models.model import Local
from arena_assets.models.opening import open_engine

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
            reference = manifest.metrics.get("dpo_reference_runtime", 0.0)
            spent["training: imports, loading, saving"] -= optimising + reference
            spent["training: steps"] += optimising
            spent["training: DPO's reference"] += reference
    whole = max(r.end_time for r in records) - min(r.start_time for r in records)
    spent["start of jobs"] = whole - sum(r.end_time - r.start_time for r in records)
    return spent


def answers_made(
    arena: Arena,
) -> Iterator[tuple[Contestant, list[dict[str, Any]]]]:
    """Every answer of the lake that weights here gave, once, by contestant in the run's order."""
    seen: set[str] = set()
    for key in arena.rounds:
        groups = {"responses": round_contestants, "arena_responses": arena_contestants}
        for table, group in groups.items():
            rows = arena.lake.query(
                "select response_id, contestant, prompts.prompt_id, messages, turns, "
                "answers.prompt_tokens, completion_tokens from answers "
                "join prompts using (prompt_id) order by prompts.prompt_id",
                answers=(table, key),
                prompts=("prompts_curated", "all"),
            ).to_pylist()
            for contestant in by_model(group(arena, key)):
                named = [row for row in rows if row["contestant"] == contestant.name]
                new = [row for row in named if row["response_id"] not in seen]
                seen |= {row["response_id"] for row in new}
                if isinstance(contestant.model, Local) and new:
                    yield contestant, new


def seconds_to_first_token(
    engine: Engine, contestant: Contestant, rows: list[dict[str, Any]], batch: int
) -> float:
    """How long the prompts of these answers take, turn by turn, in batches as the run had them."""
    short = contestant.sampling.model_copy(update={"max_tokens": 1})
    started = time.monotonic()
    for first in range(0, len(rows), batch):
        part = rows[first : first + batch]
        for turn in range(max(len(row["turns"]) for row in part)):
            asked = [row for row in part if turn < len(row["turns"])]
            requests = [
                Request(
                    row["prompt_id"],
                    contestant.render(with_answers(row["messages"], row["turns"][:turn])),
                    turn,
                )
                for row in asked
            ]
            last = [turn == len(row["turns"]) - 1 for row in asked]
            for best_of, ends in ((1, False), (contestant.best_of, True)):
                alike = [r for r, end in zip(requests, last, strict=True) if end == ends]
                engine.chat(alike, short, best_of)
    return time.monotonic() - started


def prefill(arena: Arena) -> tuple[float, int, int]:
    """Seconds of prefill, tokens of the prompts (cached ones too) and of the answers."""
    settings, seconds, prompt_tokens, completion_tokens = arena.profile.generation, 0.0, 0, 0
    warm: set[str] = set()
    for contestant, rows in answers_made(arena):
        engine = open_engine(contestant.model, arena.profile.seed, settings.engine)
        if contestant.model.digest not in warm:  # the first step of an engine sets it up
            warm.add(contestant.model.digest)
            hello = Request("warm", [{"role": "user", "content": "Hello"}], 0)
            engine.chat([hello], contestant.sampling.model_copy(update={"max_tokens": 2}))
        seconds += seconds_to_first_token(engine, contestant, rows, settings.batch)
        prompt_tokens += sum(row["prompt_tokens"] for row in rows)
        completion_tokens += sum(row["completion_tokens"] for row in rows)
    return seconds, prompt_tokens, completion_tokens


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--since", type=datetime.fromisoformat, default=datetime(2000, 1, 1))
    parser.add_argument("--prefill", action="store_true")
    asked = parser.parse_args()
    with dg.DagsterInstance.get() as instance:
        spent = seconds_by_kind(instance, asked.since.timestamp())
    whole = sum(spent.values())
    for kind, seconds in spent.most_common():
        print(f"{kind:36} {seconds:6.0f} s {100 * seconds / whole:5.1f} %")
    kinds = ("answering", "judging", "training: steps", "training: DPO's reference")
    model = sum(spent[kind] for kind in kinds)
    print(f"{'whole':36} {whole:6.0f} s, model work {100 * model / whole:.0f} %")
    if asked.prefill:
        seconds, prompt_tokens, completion_tokens = prefill(open_arena())
        rest = spent["answering"] - seconds
        print(
            f"answering, prefill                   {seconds:6.0f} s, {prompt_tokens} prompt tokens"
        )
        print(f"answering, decode (the rest)         {rest:6.0f} s, {completion_tokens} tokens")


if __name__ == "__main__":
    main()
