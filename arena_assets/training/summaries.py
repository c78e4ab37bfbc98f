"""What training logged and what it learned from, summed up for manifests and pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from arena_assets.lake.tables import TABLES
from arena_assets.training.checkpoints import ROLLOUTS, ROWS
from arena_assets.training.measuring import read_measured
from arena_assets.training.progress import METRICS

_BATCH = 1_000  # rollouts in memory
_LEFT_OUT = pa.schema(
    [
        ("phase", pa.string()),
        ("reason", pa.string()),
        ("rows", pa.int64()),
        ("row_ids", pa.string()),
    ]
)


_SUMMED_UP = (
    *("loss", "reward", "num_tokens", "train_runtime", "reference_runtime"),
    *("moved_float32", "moved_bfloat16"),  # shares of the weights, see training.masters
)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """What training logged, one entry a step."""
    path = folder / METRICS
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def summary(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """Of every phase: last loss and reward, tokens seen, seconds, shares that moved; devices.

    Seconds are those of steps and of DPO's reference. Tokens are those of all passes forward and
    back, those of prompts among them.
    """
    last: dict[str, Any] = {}
    for entry in metrics:
        last |= {name: entry[name] for name in ("devices", "device") if name in entry}
        for name in _SUMMED_UP:
            if name in entry:
                last[f"{entry['phase']}_{name}"] = round(float(entry[name]), 4)
    return last


def metrics_of(folder: Path) -> dict[str, Any]:
    """What a manifest says of a training: last numbers, rows, and how a reward model did."""
    found = read_measured(folder)
    return {
        **summary(read_metrics(folder)),
        "rows": rows_summary(folder),
        **({"reward_model": found.summary()} if found else {}),
    }


def rows_summary(folder: Path) -> dict[str, Any]:
    """How many rows each phase learned from, and how many were left out for which reason."""
    return {
        phase: {
            "learned": found["rows"],
            "left_out": {reason: len(ids) for reason, ids in found["dropped"].items()},
        }
        for phase, found in _read_rows(folder).items()
    }


def kept_rollouts(folder: Path, round_: str) -> pa.RecordBatchReader:
    """What RL drew for a checkpoint, as rows of the table; none where it was not made by RL."""
    schema, file = TABLES["rollouts"].schema, folder / ROLLOUTS

    def batches() -> Iterator[pa.RecordBatch]:
        if file.exists():
            for batch in pq.ParquetFile(file).iter_batches(_BATCH):
                named = batch.append_column("round", pa.repeat(round_, batch.num_rows))
                yield named.select(schema.names).cast(schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def left_out(folder: Path) -> pa.Table:
    """The rows that a checkpoint did not learn from, a row a phase and reason."""
    rows = [
        {"phase": phase, "reason": reason, "rows": len(ids), "row_ids": ", ".join(ids)}
        for phase, found in _read_rows(folder).items()
        for reason, ids in found["dropped"].items()
    ]
    return pa.Table.from_pylist(rows, schema=_LEFT_OUT)


def _read_rows(folder: Path) -> dict[str, Any]:
    file = folder / ROWS
    return json.loads(file.read_text("utf-8")) if file.exists() else {}
