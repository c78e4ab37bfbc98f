"""A small round of RL for tests: prompts with a constraint, and pairs for a reward model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from arena_assets.config.profile import load_profile
from arena_assets.lake.tables import MESSAGES
from arena_assets.training.job import Job

CONSTRAINTS = '[{"type": "no_commas"}, {"type": "word_count", "minimum": 1, "maximum": 6}]'
_TEXT, _TURNS = pa.string(), pa.list_(pa.string())
_SCHEMA = pa.schema(
    [(name, _TEXT) for name in ("row_id", "kind", "prompt_id", "constraints", "reference")]
    + [("messages", MESSAGES), ("chosen_turns", _TURNS), ("rejected_turns", _TURNS)]
)


def prompt_row(number: int) -> dict[str, Any]:
    asked = [{"role": "user", "content": f"Name town {number}."}]
    known = {"row_id": f"q{number}", "kind": "prompt", "prompt_id": f"p{number}"}
    return known | {"messages": asked, "constraints": CONSTRAINTS}


def pair_row(number: int, better: str = "Yes it is", worse: str = "no") -> dict[str, Any]:
    asked = [{"role": "user", "content": f"Is {number} a number?"}]
    known = {"row_id": f"w{number}", "kind": "preference", "prompt_id": f"n{number}"}
    return known | {"messages": asked, "chosen_turns": [better], "rejected_turns": [worse]}


def job_of(folder: Path, model: Path, rows: list[dict[str, Any]], rl: dict[str, Any]) -> Job:
    """A job of RL on these rows, with settings of `training.rl` other than the tiny profile's."""
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), folder / "rows.parquet")
    training = load_profile().training
    changed = training.rl.model_validate(training.rl.model_dump() | rl)
    return Job(
        stage="rl",
        model=model,
        training_set=folder / "rows.parquet",
        output=folder / "out",
        training=training.model_copy(update={"rl": changed, "dtype": "float32"}),
        seed=0,
    )
