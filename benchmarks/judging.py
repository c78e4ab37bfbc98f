"""Games/s of the LLM judge: batched with vLLM's prefix cache, without it, and one call at a time.

    python benchmarks/judging.py [PROMPTS]

Four contestants' answers to each prompt, all pairs, both orders; SmolLM2-135M judges. The games are
the same everywhere; one at a time sees the first of them, on the engine with the cache.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import permutations
from pathlib import Path

from arena_assets.config.judges import LLMJudge
from arena_assets.config.profile import load_profile
from arena_assets.flywheel.arena import open_arena
from arena_assets.judging.games import Game
from arena_assets.judging.judges import LanguageModelJudge
from arena_assets.models.model import Local
from arena_assets.models.opening import open_engine
from arena_assets.models.weights import base_weights

SINGLE = 16  # games one at a time


def games_of(prompts: int) -> list[Game]:
    """All pairs in both orders of the author's answer and three cut or foreign ones."""
    folder = Path("data/seed")
    asked = [json.loads(line) for line in (folder / "prompts.jsonl").open(encoding="utf-8")]
    lines = (folder / "responses.jsonl").open(encoding="utf-8")
    recorded = {row["prompt_id"]: row["text"] for row in map(json.loads, lines)}
    texts = [recorded[row["prompt_id"]] for row in asked]
    games = []
    for number, row in enumerate(asked[:prompts]):
        half = texts[number][: len(texts[number]) // 2]
        answers = [texts[number], half, texts[number + 1], texts[-number - 1]]
        for one, two in permutations(range(len(answers)), 2):
            games.append(
                Game(
                    judgment_id=f"{number}-{one}-{two}",
                    prompt_id=row["prompt_id"],
                    messages=row["messages"],
                    constraints="[]",
                    reference=None,
                    text_a=answers[one],
                    text_b=answers[two],
                    turns_a=[answers[one]],
                    turns_b=[answers[two]],
                )
            )
    return games


def main() -> None:
    games = games_of(int(sys.argv[1]) if len(sys.argv) > 1 else 16)
    arena = load_profile()
    model = arena.models["smollm2-135m"]
    folder = base_weights(model, open_arena().models_cache, "smollm2-135m")
    weights = Local("smollm2-135m", folder, "benchmark")
    (settings,) = [j for j in arena.single_judges if isinstance(j, LLMJudge)]
    settings = settings.model_copy(update={"attempts": 1})

    def measure(chunk: int, some: list[Game], cache: bool) -> tuple[float, float]:
        """Games/s in calls of `chunk` games, and the share of prompt tokens that were cached."""
        engine_settings = arena.generation.engine | {
            "enable_prefix_caching": cache,
            "disable_log_stats": False,  # it counts the cache's hits
        }
        engine = open_engine(weights, 0, engine_settings)
        judge = LanguageModelJudge(settings, weights, lambda: engine)
        judge.judge(games[-1:])
        engine._llm.reset_prefix_cache()
        before = _counters(engine)
        started = time.monotonic()
        for start in range(0, len(some), chunk):
            judge.judge(some[start : start + chunk])
        seconds = time.monotonic() - started
        queries, hits = (new - old for new, old in zip(_counters(engine), before, strict=True))
        return len(some) / seconds, hits / queries if queries else 0.0

    single, single_hits = measure(1, games[:SINGLE], True)
    batched, hits = measure(len(games), games, True)
    uncached, _ = measure(len(games), games, False)
    print(f"{len(games)} games, SmolLM2-135M, bfloat16, JSON under a schema")
    print(f"one call at a time, prefix cache   {single:5.2f} games/s, {single_hits:.0%} cached")
    print(f"one batch, no prefix cache         {uncached:5.2f} games/s, {uncached / single:.1f} x")
    print(f"one batch, prefix cache            {batched:5.2f} games/s, {batched / single:.1f} x, "
          f"{hits:.0%} of the prompt tokens cached")  # fmt: skip


def _counters(engine) -> tuple[float, float]:
    found = {metric.name: getattr(metric, "value", 0) for metric in engine._llm.get_metrics()}
    return found["vllm:prefix_cache_queries"], found["vllm:prefix_cache_hits"]


if __name__ == "__main__":
    main()
