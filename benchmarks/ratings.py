"""From Parquet to ratings with intervals, beside arena-rank and evalica: `make bench-ratings`.

Simulated battles of 100 models (1M unless told otherwise: `python benchmarks/ratings.py BATTLES`).
Every contender reads the same file in a process of its own, which prints seconds without imports;
peak memory is that of the process. arena-rank pins other versions of our dependencies, so it runs
in `.venv-arena-rank`, and is left out where that is missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

MODELS, RESAMPLES, PROMPTS = 100, 100, 5_000
PROJECT = Path(__file__).resolve().parents[1]
ARENA_RANK = PROJECT / ".venv-arena-rank" / "bin" / "python"

OURS = """
from arena_assets.ratings.battles import read_battles
from arena_assets.ratings.bradley_terry import Anchor, Intervals, rate
started = time.perf_counter()
battles = read_battles(Path(path), "lmarena")
rated = rate(battles.table, Anchor("m000", 1000), Intervals("{interval}", resamples={resamples}))
"""
ARENA_RANK_FIT = """
import pandas
from arena_rank.models.bradley_terry import BradleyTerry
from arena_rank.utils.data_utils import PairDataset
started = time.perf_counter()
frame = pandas.read_parquet(path, columns=["model_a", "model_b", "winner"])
dataset = PairDataset.from_pandas(frame)
model = BradleyTerry(n_competitors=len(dataset.competitors))
model.compute_ratings_and_cis(dataset, ci_method="sandwich")
"""
EVALICA = """
import evalica, pandas
started = time.perf_counter()
frame = pandas.read_parquet(path, columns=["model_a", "model_b", "winner"])
winners = frame["winner"].map({{"model_a": evalica.Winner.X, "model_b": evalica.Winner.Y}})
"""
EVALICA_FIT = EVALICA + "evalica.bradley_terry(frame['model_a'], frame['model_b'], winners)\n"
# five resamples are enough to know what one costs; the table says what a hundred would take
EVALICA_BOOTSTRAP = (
    EVALICA
    + """
columns = frame["model_a"], frame["model_b"], winners
started = time.perf_counter()
evalica.bootstrap(evalica.bradley_terry, *columns, n_resamples=5, bootstrap_method="percentile")
"""
)
HARNESS = """
import resource, sys, time
from pathlib import Path
path = sys.argv[1]
{body}
seconds = time.perf_counter() - started
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def simulate(battles: int, path: Path) -> None:
    """Random pairs on random prompts, won by Bradley-Terry probabilities, in LMArena's columns."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = np.random.default_rng(0)
    names = pa.array([f"m{number:03d}" for number in range(MODELS)])
    words = pa.array(["model_a", "model_b"])
    prompts = pa.array([f"prompt-{number:05d}" for number in range(PROMPTS)])
    strengths = draw.normal(0, 1, MODELS)
    writer = None
    for start in range(0, battles, 1_000_000):
        size = min(1_000_000, battles - start)
        one = draw.integers(MODELS, size=size)
        two = (one + draw.integers(1, MODELS, size=size)) % MODELS
        lost = draw.random(size) > 1 / (1 + np.exp(strengths[two] - strengths[one]))
        table = pa.table(
            {
                "question_id": prompts.take(pa.array(draw.integers(PROMPTS, size=size))),
                "model_a": names.take(pa.array(one)),
                "model_b": names.take(pa.array(two)),
                "winner": words.take(pa.array(lost.astype(int))),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()


def measure(
    body: str, path: Path, python: Path = Path(sys.executable), interval: str = "sandwich"
) -> tuple[float, float]:
    """(seconds, GiB at the peak) of a contender in a new process."""
    code = HARNESS.format(body=body.format(resamples=RESAMPLES, interval=interval))
    done = subprocess.run(
        [python, "-W", "ignore", "-c", code, path],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    seconds, memory = done.stdout.split()[-2:]
    return float(seconds), float(memory)


def main() -> None:
    battles = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "battles.parquet"
        simulate(battles, path)
        ours = min(measure(OURS, path) for _ in range(3))
        print(f"{battles:,} battles of {MODELS} models on {PROMPTS:,} prompts")
        print(f"{'ours, fit and sandwich by prompt':32} {ours[0]:8.2f} s, {ours[1]:.2f} GiB")
        if battles > 1_000_000:
            return  # what follows would take minutes and gigabytes

        def compare(name: str, seconds: float) -> None:
            print(f"{name:32} {seconds:8.2f} s, {seconds / ours[0]:.1f} x ours")

        drawn = measure(OURS, path, interval="bootstrap")[0]
        compare(f"ours, {RESAMPLES} bootstraps by prompt", drawn)
        compare("evalica, estimate only", measure(EVALICA_FIT, path)[0])
        five = measure(EVALICA_BOOTSTRAP, path)[0]
        compare(f"evalica, {RESAMPLES} bootstraps by row*", five / 5 * RESAMPLES)
        if ARENA_RANK.exists():
            compare("arena-rank, fit and sandwich", measure(ARENA_RANK_FIT, path, ARENA_RANK)[0])
        else:
            print("arena-rank is not installed: make bench-ratings does it")
        print(f"* five measured, times {RESAMPLES // 5}")


if __name__ == "__main__":
    main()
