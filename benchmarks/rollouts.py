"""Who draws rollouts faster on this machine: HF generate in the trainer, or vLLM with new weights.

    python benchmarks/rollouts.py

Groups of 16 and of 32 completions of 40 tokens with SmolLM2-135M, each engine in a process of its
own, the first group of each size not counted. vLLM gets the policy's weights before every group, as
it has to after every step. Processor seconds are of all threads: on a machine that others use too
they tell more than the clock does.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arena_assets.config.places import PROJECT
from arena_assets.models.machine import number_type

GROUPS, TOKENS, COMPLETIONS, RUNS = (16, 32), 40, 4, 3
WEIGHTS = Path(os.environ.get("WEIGHTS", PROJECT / "data/models/smollm2-135m"))


def prompts(group: int) -> list[list[int]]:
    """Token ids of the prompts of a group, each as often as it has completions."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    lines = (PROJECT / "data/seed/prompts.jsonl").read_text("utf-8").splitlines()
    asked = [json.loads(line) for line in lines[: group // COMPLETIONS]]
    ids = [
        tokenizer.apply_chat_template(
            row.get("messages") or [{"role": "user", "content": row["prompt"]}],
            add_generation_prompt=True,
            return_dict=False,
        )
        for row in asked
    ]
    return [one for one in ids for _ in range(COMPLETIONS)]


Draw = Callable[[list[list[int]]], None]


def with_transformers() -> Draw:
    """As TRL's trainers do it: left-padded prompts, weights in float32, products in the type."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32).eval()
    half = number_type("auto", "training").name == "bfloat16"

    def draw(asked: list[list[int]]) -> None:
        longest = max(map(len, asked))
        ids = torch.tensor([[0] * (longest - len(one)) + one for one in asked])
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in asked])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                max_new_tokens=TOKENS,
                min_new_tokens=TOKENS,
                pad_token_id=0,
            )

    return draw


def with_vllm() -> Draw:
    """Our own vLLM: the policy's weights are laid into it, then it draws."""
    from arena_assets.models.vllm_engine import _prepare_environment

    _prepare_environment()
    import torch
    from transformers import AutoModelForCausalLM
    from vllm import LLM, SamplingParams

    cores = os.sched_getaffinity(0)
    kind = number_type("auto", "generation").name
    engine: Any = LLM(str(WEIGHTS), enforce_eager=True, dtype=kind, max_model_len=512, seed=0)
    os.sched_setaffinity(0, cores)
    policy = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32)
    sampling = SamplingParams(temperature=1.0, max_tokens=TOKENS, min_tokens=TOKENS)

    def draw(asked: list[list[int]]) -> None:
        weights = list(policy.state_dict().items())
        engine.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
        engine.reset_prefix_cache()
        engine.generate([{"prompt_token_ids": one} for one in asked], sampling, use_tqdm=False)

    return draw


ENGINES = {"transformers": with_transformers, "vllm": with_vllm}


def measure(name: str) -> None:
    """Print a line a size: tokens a second of the clock, and a processor second."""
    draw = ENGINES[name]()
    for group in GROUPS:
        asked, clock, busy = prompts(group), [], []
        for _ in range(RUNS + 1):
            started, worked = time.monotonic(), time.process_time()
            draw(asked)
            clock.append(time.monotonic() - started)
            busy.append(time.process_time() - worked)
        pace, thrift = (group * TOKENS / statistics.median(spent[1:]) for spent in (clock, busy))
        print(
            f"{name:<12} {group:>3} completions {pace:6.0f} tokens/s {thrift:6.0f} tokens/core-s",
            flush=True,
        )


def main() -> None:
    if sys.argv[1:]:
        measure(sys.argv[1])
        return
    print(
        f"{TOKENS} tokens a completion, {COMPLETIONS} completions a prompt, median of {RUNS}",
        flush=True,
    )
    for name in ENGINES:
        subprocess.run([sys.executable, __file__, name], check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
