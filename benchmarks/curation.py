"""Curation of 69K, 138K and 276K prompts, and MinHash beside datasketch: `make bench-curation`.

The prompts are synthetic, made of pieces of real benchmark prompts (`python benchmarks/curation.py
FOLDER`; FOLDER holds prompts/benchmark_prompts.parquet and alpaca_eval/prompts.parquet): 80 % of
their own, 17 % near copies of earlier ones, 2 % altered benchmark items, 1 % too short. Every size
runs in a process of its own through the assets of a profile; its peak memory is that process's.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[1]
SIZES = (69_000, 138_000, 276_000)
_OWN, _COPY, _PLANTED = 0.80, 0.97, 0.99  # upper bounds of the shares


def real_prompts(folder: Path) -> list[str]:
    """The texts of both collections."""
    import pyarrow.parquet as pq

    benchmark = pq.read_table(folder / "prompts/benchmark_prompts.parquet", columns=["prompt"])
    alpaca = pq.read_table(folder / "alpaca_eval/prompts.parquet", columns=["instruction"])
    return benchmark["prompt"].to_pylist() + alpaca["instruction"].to_pylist()


def synthesise(texts: list[str], count: int, seed: int) -> list[str]:
    """Prompts of about 40 words, in runs of one to three words from random places of `texts`."""
    draw = random.Random(seed)
    # texts without blanks would be copied whole
    words = [[word for word in text.split() if len(word) <= 20] for text in texts]
    words = [said for said in words if len(said) > 2]
    made: list[str] = []
    while len(made) < count:
        kind = draw.random()
        if kind < _OWN or not made:
            piece: list[str] = []
            for _ in range(draw.randint(8, 32)):
                source = draw.choice(words)
                start = draw.randrange(len(source))
                piece += source[start : start + draw.randint(1, 3)]
        elif kind < _COPY:
            piece = draw.choice(made).split()
            piece[draw.randrange(len(piece))] = draw.choice(draw.choice(words))
        elif kind < _PLANTED:
            piece = ["Please", "answer:", *draw.choice(words)]
        else:
            piece = draw.choice(words)[:2]
        made.append(" ".join(piece))
    return made


def profile(work: Path, folder: Path, count: int) -> Path:
    """A profile with the paper's sizes over synthetic prompts, and those prompts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = synthesise(real_prompts(folder), count, seed=count)
    ids = [f"p{number:06d}" for number in range(count)]
    draw = random.Random(0)
    difficulty = [round(draw.uniform(0, 10), 1) for _ in ids]  # no model rates here
    table = pa.table({"prompt_id": ids, "prompt": texts, "difficulty": difficulty})
    pq.write_table(table, work / "prompts.parquet")
    benchmarks = {
        "arenas": folder / "prompts/benchmark_prompts.parquet",
        "alpaca-eval": folder / "alpaca_eval/prompts.parquet",
    }
    settings = yaml.safe_load((PROJECT / "profiles/pocket.yaml").read_text("utf-8"))
    settings["name"] = "bench"
    settings["prompts"] = {
        "sources": [{"name": "synthetic", "path": str(work / "prompts.parquet")}],
        "unsafe": {"lexicon": "data/lexicons/unsafe.txt"},
        "minimum_words": 10,
        "prefix_words": 10,
        "decontamination": {
            "benchmarks": [{"name": n, "path": str(p)} for n, p in benchmarks.items()]
        },
        "language": {"keep": ["en"]},
        "slices": {"names": [f"D{n}" for n in range(1, 10)], "initial": {"rows": count // 28}},
        "testset": {"clusters": 500, "hard": 1000},
    }
    for number, round_ in enumerate(settings["rounds"].values(), start=1):
        round_["slice"] = f"D{number}"
    path = work / "profile.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def run_steps() -> None:
    """In a process of its own: the collection job and every asset of curation, with seconds."""
    import dagster as dg

    from arena_assets.assets import curation, prompts
    from arena_assets.assets.partitions import sources_of
    from arena_assets.flywheel.arena import open_arena

    arena = open_arena()
    assets = [*prompts.assets(sources_of(arena.profile)), *curation.assets()]
    collected = dg.AssetSelection.assets("prompts", "quarantine")
    curated = dg.AssetSelection.all() - collected - dg.AssetSelection.assets("models")
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    with dg.DagsterInstance.ephemeral() as instance:
        for selection, partition in ((collected, "synthetic"), (curated, None)):
            result = dg.materialize(
                assets,
                selection=selection,
                partition_key=partition,
                resources={"arena": arena},
                instance=instance,
            )
            for event in result.all_events:
                if event.is_step_success:
                    duration = event.step_success_data.duration_ms / 1000
                    seconds[event.step_key] = duration
    counted = arena.lake.query(
        "select step, count(*) as rows from d group by step order by step",
        d=("prompt_drops", "all"),
    )
    print(
        json.dumps(
            {
                "seconds": seconds,
                "total": time.perf_counter() - started,
                "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                "drops": {r["step"]: r["rows"] for r in counted.to_pylist()},
                "slices": arena.lake.read("slices").num_rows,
            }
        )
    )


def run_minhash(library: str, path: str) -> None:
    """In a process of its own: signatures of the same sets, their LSH index and a query of each."""
    import duckdb

    from arena_assets.curation.near_duplicates import signatures
    from arena_assets.curation.words import runs, words_of

    prompts = duckdb.sql(
        "select prompt_id, [{role: 'user', content: prompt}] as messages "
        f"from read_parquet('{path}')"
    ).to_arrow_table()
    sets = [runs(part, 3) for part in words_of(prompts)]
    started = time.perf_counter()
    if library == "rensa":
        from rensa import RMinHashLSH

        index, number = RMinHashLSH(0.8, 128, 32), 0
        matrices = [signatures(part) for part in sets]
        for part, matrix in zip(sets, matrices, strict=True):
            index.insert_matrix(matrix, number)
            number += len(part)
        found = sum(sum(index.query_duplicate_flags_matrix(matrix)) for matrix in matrices)
    else:
        from datasketch import MinHash, MinHashLSH

        index, hashes = MinHashLSH(num_perm=128, params=(32, 4)), []
        for part in sets:
            values = (part.values >> 32).tolist()  # datasketch hashes to 32 bits
            for row in range(len(part)):
                minhash = MinHash(num_perm=128, hashfunc=int)
                minhash.update_batch(values[part.offsets[row] : part.offsets[row + 1]])
                index.insert(len(hashes), minhash)
                hashes.append(minhash)
        found = sum(len(index.query(minhash)) > 1 for minhash in hashes)
    print(json.dumps({"seconds": time.perf_counter() - started, "found": found}))


def child(*arguments: str, **environment: str) -> dict:
    """Run this file in a new process; what its last line says."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, *arguments],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=os.environ | environment,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def main(folder: Path) -> None:
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for count in SIZES:
            work = Path(scratch) / str(count)
            work.mkdir()
            chosen = str(profile(work, folder, count))
            lake = str(work / "lake")
            found[count] = child("--steps", ARENA_PROFILE=chosen, ARENA_LAKE=lake)
        minhash = {
            library: child("--minhash", library, str(work / "prompts.parquet"))
            for library in ("rensa", "datasketch")
        }
    print_report(found, minhash)


def print_report(found: dict[int, dict], minhash: dict[str, dict]) -> None:
    largest = found[SIZES[-1]]
    print("seconds".ljust(26) + "".join(f"{count:>10,}" for count in SIZES))
    for step in largest["seconds"]:
        print(step.ljust(26) + "".join(f"{found[c]['seconds'][step]:>10.1f}" for c in SIZES))
    without = {
        count: sum(s for step, s in one["seconds"].items() if step != "prompt_embeddings")
        for count, one in found.items()
    }
    print("all but the embedding".ljust(26) + "".join(f"{without[c]:>10.1f}" for c in SIZES))
    print(
        "microseconds a prompt".ljust(26) + "".join(f"{without[c] / c * 1e6:>10.0f}" for c in SIZES)
    )
    print("peak memory, GiB".ljust(26) + "".join(f"{found[c]['peak']:>10.2f}" for c in SIZES))
    print(f"\ndrops of {SIZES[-1]:,}: {largest['drops']}; {largest['slices']:,} in slices")
    for library, one in minhash.items():
        rate = SIZES[-1] / one["seconds"]
        print(
            f"MinHash and LSH, {library}: {one['seconds']:.2f} s, {rate:,.0f} rows/s, "
            f"{one['found']:,} rows have a candidate"
        )
    faster = minhash["datasketch"]["seconds"] / minhash["rensa"]["seconds"]
    print(f"rensa is {faster:.0f} x as fast")


if __name__ == "__main__":
    if sys.argv[1] == "--steps":
        run_steps()
    elif sys.argv[1] == "--minhash":
        run_minhash(*sys.argv[2:])
    else:
        main(Path(sys.argv[1]))
