"""What training logged and what it learned from, summed up for manifests and pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from arena_assets.training.checkpoints import ROWS

_LEFT_OUT = pa.schema(
    [
        ("phase", pa.string()),
        ("reason", pa.string()),
        ("rows", pa.int64()),
        ("row_ids", pa.string()),
    ]
)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """What training logged, one entry a step."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def summary(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """Of every phase: last loss and reward, tokens seen, seconds of steps and reference; devices.

    Tokens are those of all passes forward and back, those of prompts among them.
    """
    last: dict[str, Any] = {}
    for entry in metrics:
        last |= {name: entry[name] for name in ("devices", "device") if name in entry}
        for name in ("loss", "reward", "num_tokens", "train_runtime", "reference_runtime"):
            if name in entry:
                last[f"{entry['phase']}_{name}"] = round(float(entry[name]), 4)
    return last


def rows_summary(folder: Path) -> dict[str, Any]:
    """How many rows each phase learned from, and how many were left out for which reason."""
    return {
        phase: {
            "learned": found["rows"],
            "left_out": {reason: len(ids) for reason, ids in found["dropped"].items()},
        }
        for phase, found in _read_rows(folder).items()
    }


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
