"""Tokens/s of the `responses` asset beside a bare vllm.LLM.chat on the same prompts and engine.

    python benchmarks/generation.py [PROMPTS]

Both run five times by turns, with the prefix cache emptied before each and the engine loaded.
The asset's time is all of it: Dagster's run, keys, look-ups, the store, the table.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROUND, RUNS = "i01.1-sft", 5
WORK = Path(tempfile.mkdtemp(prefix="arena-benchmark-"))


def write_profile(prompts: int) -> None:
    """The pocket arena with one large slice and nobody but the target who generates."""
    pocket = yaml.safe_load(Path("profiles/pocket.yaml").read_text("utf-8"))
    pocket["opponents"] = [pocket["opponents"][0]]
    pocket["ratings"]["anchor"] = "base"
    pocket["prompts"]["slices"] = {"names": ["D1"], "rows": prompts}
    pocket["rounds"] = {ROUND: pocket["rounds"][ROUND]}
    pocket["generation"]["batch"] = prompts
    (WORK / "profile.yaml").write_text(yaml.safe_dump(pocket), "utf-8")
    os.environ["ARENA_PROFILE"] = str(WORK / "profile.yaml")


def main() -> None:
    prompts = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    write_profile(prompts)
    import dagster as dg
    import pyarrow as pa
    from vllm import SamplingParams

    from arena_assets.definitions import defs
    from arena_assets.flywheel.arena import Arena
    from arena_assets.lake.tables import PROMPTS
    from arena_assets.models.engine import Request
    from arena_assets.models.model import Local
    from arena_assets.models.opening import open_engine
    from arena_assets.models.weights import base_weights
    from arena_assets.training.checkpoints import VERIFIED, verified_digest

    lines = Path("data/seed/prompts.jsonl").read_text("utf-8").splitlines()[:prompts]
    rows = [json.loads(line) for line in lines]
    for row in rows:
        row |= {"source": "seed", "constraints": json.dumps(row.get("constraints", []))}
    fresh = Arena(str(WORK / "profile.yaml"), str(WORK / "none"))
    folder = base_weights(fresh.profile.models["smollm2-135m"], fresh.models_cache, "smollm2-135m")
    digest = verified_digest(folder, folder / VERIFIED)
    weights = Local("smollm2-135m", folder, digest)
    engine = open_engine(weights, fresh.profile.seed, fresh.profile.generation.engine)
    sampling = fresh.profile.target.sampling
    parameters = SamplingParams(temperature=0, max_tokens=sampling.max_tokens)
    engine.chat([Request("warm", rows[0]["messages"])], sampling)

    def bare() -> float:
        engine._llm.reset_prefix_cache()
        started = time.monotonic()
        outputs = engine._llm.chat([row["messages"] for row in rows], parameters, use_tqdm=False)
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        return tokens / (time.monotonic() - started)

    responses = [asset for asset in defs.assets if asset.op.name == "responses"]

    def asset(number: int) -> float:
        arena = Arena(fresh.profile_path, str(WORK / f"lake-{number}"))
        listed = [{"name": weights.name, "origin": "x", "path": str(folder), "digest": digest}]
        arena.lake.write("models", listed)
        arena.lake.write("prompts_curated", pa.Table.from_pylist(rows, schema=PROMPTS.schema))
        arena.lake.write("slices", [{"prompt_id": r["prompt_id"], "slice": "D1"} for r in rows])
        engine._llm.reset_prefix_cache()
        started = time.monotonic()
        done = dg.materialize(responses, partition_key=ROUND, resources={"arena": arena})
        seconds = time.monotonic() - started
        assert done.success
        written = arena.lake.read("responses", ROUND, ["contestant", "completion_tokens"])
        return sum(written["completion_tokens"].to_pylist()) / seconds

    pairs = [(bare(), asset(number)) for number in range(RUNS)]
    plain, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{prompts} prompts, at most {sampling.max_tokens} tokens each, SmolLM2-135M, bfloat16")
    print(f"bare vllm.LLM.chat   {plain:6.0f} tokens/s")
    print(f"the responses asset  {ours:6.0f} tokens/s, {ours / plain:.3f} of it")


if __name__ == "__main__":
    main()
