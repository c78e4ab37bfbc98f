"""Our training jobs beside bare TRL scripts on the same data: SFT in tokens/s, GRPO in step time.

    python benchmarks/training.py [--turns 3] [--rows 96] [--steps 2]

A script is what somebody would write with TRL alone: messages in, TRL's own preparation, batches
as they come. It has the job's batches, learning rate, number type, generation settings and reward
model, and the same settings of the allocator, without which it would be slower on a CPU. Both run
by turns, each in a process of its own. Ratios are of a turn: median, least and greatest.
About 8 minutes on two quiet AVX-512 cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from arena_assets.config.profile import load_profile
from arena_assets.config.training import Training
from arena_assets.flywheel.arena import open_arena
from arena_assets.lake.tables import MESSAGES
from arena_assets.models.machine import number_type
from arena_assets.models.weights import base_weights
from arena_assets.training.job import Job
from arena_assets.training.process import KEEP_MEMORY, run_job
from arena_assets.training.reward_model import REWARD_MODEL
from arena_assets.training.summaries import read_metrics

JUDGED = 16  # pairs of the reward model, which is not measured
COMPLETION = 32  # tokens


def jobs(folder: Path, rows: int, steps: int) -> dict[str, Job]:
    """SFT over `rows` rows and `steps` steps of GRPO, with the settings of the pocket arena."""
    profile = load_profile("profiles/pocket.yaml")
    training = profile.training.model_dump() | {"dtype": number_type("auto", "training").name}
    training["sft"] |= {"epochs": 1}
    training["rl"] |= {"max_steps": steps, "max_completion": COMPLETION}
    write_rows(folder / "rows.parquet", rows)
    name = profile.target.model
    model = base_weights(profile.models[name], open_arena().models_cache, name)
    return {
        stage: Job(
            stage=stage,
            model=model,
            training_set=folder / "rows.parquet",
            output=folder / stage,
            training=Training.model_validate(training),
            seed=profile.seed,
        )
        for stage in ("sft", "rl")
    }


def write_rows(file: Path, count: int) -> None:
    """The first seed prompts with their reference answers; as worse ones those of the next rows."""
    prompts, answers = (
        [
            json.loads(line)
            for line in Path(f"data/seed/{name}.jsonl").read_text("utf-8").split("\n")[:-1]
        ]
        for name in ("prompts", "responses")
    )
    text = {answer["prompt_id"]: answer["text"] for answer in answers}
    known = [p for p in prompts if len(p["messages"]) == 1 and p["prompt_id"] in text]
    step = len(known) // count
    chosen = known[: step * count : step]
    said = [text[prompt["prompt_id"]] for prompt in chosen]
    rows = [
        {
            "row_id": f"{kind}-{prompt['prompt_id']}",
            "prompt_id": prompt["prompt_id"],
            "kind": kind,
            "messages": prompt["messages"],
            "chosen_turns": [answer],
            "rejected_turns": [worse],
        }
        for kind, most in (("sft", count), ("preference", JUDGED), ("prompt", count))
        for prompt, answer, worse in list(zip(chosen, said, said[1:] + said[:1], strict=True))[
            :most
        ]
    ]
    turns = pa.list_(pa.string())
    texts = dict.fromkeys(("row_id", "prompt_id", "kind"), pa.string())
    columns = texts | {"messages": MESSAGES}
    schema = pa.schema({**columns, "chosen_turns": turns, "rejected_turns": turns})
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)


def bare(job: Job, output: Path, reward_model: Path) -> None:
    """What a script with TRL alone does; the last line says what it took."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

    kind = {"sft": "sft", "rl": "prompt"}[job.stage]
    rows = pq.read_table(job.training_set, filters=[("kind", "=", kind)]).to_pylist()
    settings = getattr(job.training, job.stage)
    shared = {
        "output_dir": str(output),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.device_batch,
        "gradient_accumulation_steps": settings.batch // settings.device_batch,
        "warmup_steps": settings.warmup,
        "lr_scheduler_type": "cosine",
        "bf16": job.training.dtype == "bfloat16",
        "model_init_kwargs": {"dtype": "float32"},
        "gradient_checkpointing": False,
        "logging_steps": 2,
        "save_strategy": "no",
        "report_to": "none",
        "seed": job.seed,
    }
    if job.stage == "sft":
        asked = [
            {"prompt": r["messages"], "completion": [_assistant(r["chosen_turns"][0])]}
            for r in rows
        ]
        trainer = SFTTrainer(
            str(job.model),
            args=SFTConfig(**shared, max_length=settings.max_length),
            train_dataset=Dataset.from_list(asked),
        )
    else:
        trainer = GRPOTrainer(
            str(job.model),
            reward_funcs=str(reward_model),
            args=GRPOConfig(
                **shared,
                max_steps=settings.max_steps,
                num_generations=settings.completions,
                max_completion_length=settings.max_completion,
                temperature=settings.temperature,
                beta=settings.kl_coefficient,
            ),
            train_dataset=Dataset.from_list([{"prompt": row["messages"]} for row in rows]),
        )
    trainer.train()
    trainer.save_model()
    print(json.dumps(taken(trainer.state.log_history)))


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def taken(log: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of the training loop, its tokens (without padding) and steps, by a trainer's log."""
    tokens = [entry["num_tokens"] for entry in log if "num_tokens" in entry]
    return {
        "loop": next(entry["train_runtime"] for entry in log if "train_runtime" in entry),
        "tokens": tokens[-1],
        "steps": max(entry["step"] for entry in log),
    }


def measured_bare(job: Job, folder: Path, turn: int) -> dict[str, float]:
    file = folder / f"{job.stage}.json"
    job.write(file)
    command = [sys.executable, __file__, "--bare", str(file), str(folder / f"bare-{turn}")]
    environment = os.environ | KEEP_MEMORY | {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1]) | {"whole": time.monotonic() - started}


def measured_ours(job: Job, folder: Path, turn: int) -> dict[str, float]:
    output = folder / f"{job.stage}-{turn}"
    started = time.monotonic()
    run_job(job.model_copy(update={"output": output}), lambda line: None)
    whole = time.monotonic() - started
    log = [entry for entry in read_metrics(output) if entry["phase"] == job.stage]
    return taken(log) | {"whole": whole}


def compare(job: Job, folder: Path, turns: int) -> None:
    sides: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}
    for turn in range(turns):
        order = ["ours", "bare"] if turn % 2 or not turn else ["bare", "ours"]
        for side in order:  # ours first, as it leaves the reward model
            run = measured_ours if side == "ours" else measured_bare
            sides[side].append(run(job, folder, turn))
    for side, runs in sides.items():
        rates = ", ".join(f"{run['tokens'] / run['loop']:.0f}" for run in runs)
        steps = ", ".join(f"{run['loop'] / run['steps']:.2f}" for run in runs)
        whole = ", ".join(f"{run['whole']:.0f}" for run in runs)
        print(f"  {side}: tokens/s {rates}; seconds a step {steps}; the whole process {whole} s")
    pairs = list(zip(sides["ours"], sides["bare"], strict=True))
    if job.stage == "sft":
        of_turns = [o["tokens"] / o["loop"] / (b["tokens"] / b["loop"]) for o, b in pairs]
        told("SFT tokens/s over bare TRL's", of_turns)
        told(
            "SFT seconds of the whole process over bare TRL's",
            [o["whole"] / b["whole"] for o, b in pairs],
        )
    else:  # ours makes a reward model besides, so whole processes are not alike
        of_turns = [o["loop"] / o["steps"] / (b["loop"] / b["steps"]) for o, b in pairs]
        told("GRPO seconds a step over bare TRL's", of_turns)


def told(what: str, ratios: list[float]) -> None:
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    print(f"{what}: {statistics.median(ratios):.3f} ({spread}, {len(ratios)} turns)")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--steps", type=int, default=2, help="of GRPO")
    parser.add_argument("--stages", nargs="+", choices=["sft", "rl"], default=["sft", "rl"])
    parser.add_argument("--bare", nargs=2, type=Path, help="JOB OUTPUT: one script by itself")
    asked = parser.parse_args()
    if asked.bare:
        file, output = asked.bare
        return bare(Job.read(file), output, file.parent / "rl-0" / REWARD_MODEL)
    with tempfile.TemporaryDirectory() as folder:
        for stage, job in jobs(Path(folder), asked.rows, asked.steps).items():
            if stage in asked.stages:
                print(f"{stage}, {job.training.dtype}:")
                compare(job, Path(folder), asked.turns)
    return None


if __name__ == "__main__":
    main()
