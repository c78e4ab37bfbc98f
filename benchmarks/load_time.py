"""How long the code location takes to load, in fresh processes: `python benchmarks/load_time.py`.

Prints the median of five loads beside that of `import dagster, dagster_dbt`, which no project
with Dagster and dbt can avoid, and names every heavy library that was imported (none should be).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "vllm", "trl", "transformers", "great_expectations", "sklearn", "datasets")
RUNS = 5
CODE = """
import sys, time
started = time.perf_counter()
import {modules}
seconds = time.perf_counter() - started
print(seconds, *[name for name in {heavy!r} if name in sys.modules])
"""


def load(modules: str) -> tuple[float, list[str]]:
    """Seconds to import `modules` in a new process, and the heavy libraries that came with them."""
    code = CODE.format(modules=modules, heavy=HEAVY)
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    seconds, *heavy = done.stdout.split()
    return float(seconds), heavy


def main() -> None:
    load("arena_assets.definitions")  # the first one compiles and may parse the dbt project
    baseline = statistics.median(load("dagster, dagster_dbt")[0] for _ in range(RUNS))
    loads = [load("arena_assets.definitions") for _ in range(RUNS)]
    seconds = statistics.median(seconds for seconds, _ in loads)
    heavy = sorted({name for _, names in loads for name in names})
    print(f"import dagster, dagster_dbt:        {baseline:.2f} s")
    print(f"import arena_assets.definitions:    {seconds:.2f} s ({seconds / baseline:.2f} x)")
    print(f"heavy libraries imported:           {', '.join(heavy) or 'none'}")


if __name__ == "__main__":
    main()
