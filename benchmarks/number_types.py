"""float32 and bfloat16 side by side on this machine, and what `auto` takes.

    python benchmarks/number_types.py

Each number type answers the same prompts and takes the same SFT steps with SmolLM2-135M, by turns,
in processes of their own; the first turn warms up and does not count. To play a CPU without AVX-512
on one that has it: ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 (vLLM's own kernels, attention
above all, still see the real CPU).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from arena_assets.config.profile import load_profile

TYPES, RUNS = ("float32", "bfloat16"), 3
PROMPTS, TOKENS, BATCH = 64, 64, 8


def generate(dtype: str) -> float:
    """Completion tokens a second of the engine, once it is loaded and warm."""
    from arena_assets.config.models import Sampling
    from arena_assets.models.engine import Request
    from arena_assets.models.model import Local
    from arena_assets.models.opening import open_engine

    engine = open_engine(
        Local("bench", _weights(), "bench"),
        0,
        {"max_model_len": 2048, "enforce_eager": True, "dtype": dtype},
    )
    requests = [Request(str(n), m) for n, m in enumerate(_conversations())]
    sampling = Sampling(max_tokens=TOKENS)
    engine.chat(requests[:4], sampling)
    started = time.monotonic()
    answers = engine.chat(requests, sampling)
    tokens = sum(answer.completion_tokens for (answer,) in answers)
    return tokens / (time.monotonic() - started)


def train(dtype: str) -> float:
    """Tokens a second of forward, backward and AdamW over batches of eight dialogues.

    As the trainers do it: weights in float32, products in `dtype`.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(_weights())
    model = AutoModelForCausalLM.from_pretrained(_weights(), dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    batches = [
        tokenizer.apply_chat_template(
            _conversations()[n * BATCH : (n + 1) * BATCH],
            return_tensors="pt", return_dict=True, padding=True,
        )
        for n in range(4)
    ]  # fmt: skip
    seen, started = 0, 0.0
    for number, batch in enumerate(batches):
        if number == 1:  # the first one warms up
            started = time.monotonic()
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen += int(batch["attention_mask"].sum()) if number else 0
    return seen / (time.monotonic() - started)


def _weights() -> Path:
    from arena_assets.flywheel.arena import open_arena
    from arena_assets.models.weights import base_weights

    name = "smollm2-135m"
    return base_weights(load_profile().models[name], open_arena().models_cache, name)


def _conversations() -> list[list[dict[str, str]]]:
    lines = Path("data/seed/prompts.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["messages"] for line in lines[:: len(lines) // PROMPTS]][:PROMPTS]


def measured(work: str, dtype: str) -> float:
    """One turn in a process of its own."""
    from arena_assets.training.process import KEEP_MEMORY

    command = [sys.executable, __file__, work, dtype]
    environment = os.environ | (KEEP_MEMORY if work == "train" else {})
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    from arena_assets.models.machine import AUTO, number_type

    for work, name in (("generate", "generation"), ("train", "training")):
        turns = [{dtype: measured(work, dtype) for dtype in TYPES} for _ in range(RUNS + 1)][1:]
        rates = {dtype: statistics.median(turn[dtype] for turn in turns) for dtype in TYPES}
        chosen = number_type(AUTO, name)
        shown = ", ".join(f"{dtype} {rate:.0f} tokens/s" for dtype, rate in rates.items())
        share = rates[chosen.name] / max(rates.values())
        print(f"{name}: {shown}; auto takes {chosen.name}, {share:.2f} of the faster")
        print(f"  ({chosen.reason})")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print({"generate": generate, "train": train}[sys.argv[1]](sys.argv[2]))
    else:
        main()
