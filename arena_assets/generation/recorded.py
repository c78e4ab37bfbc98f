"""Recorded answers: an author, or a model that nobody can run any more, fights from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from arena_assets.config import Sampling
from arena_assets.generation.engines import Completion, Request, completed


class MissingRecording(ValueError):
    """A recorded contestant that has no answer to some of the prompts."""


class RecordedEngine:
    """Answers by `prompt_id` (and `turn`, 0 without that column) from JSONL or Parquet.

    ValueError where the file has no columns prompt_id and text.
    """

    def __init__(self, path: Path):
        self.path = path
        self._connection = duckdb.connect()
        relation = (
            self._connection.read_parquet(str(path))
            if path.suffix == ".parquet"
            else self._connection.read_json(str(path), format="newline_delimited")
        )
        lacking = {"prompt_id", "text"} - set(relation.columns)
        if lacking:
            raise ValueError(
                f"{path}: columns {', '.join(sorted(lacking))} missing (there: {relation.columns})"
            )
        turn = "turn" if "turn" in relation.columns else "0"
        relation.select(f"prompt_id::varchar as prompt_id, {turn} as turn, text").create("recorded")

    def chat(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        samples: int = 1,
        json_schema: dict[str, Any] | None = None,
    ) -> list[list[Completion]]:
        """The recorded texts; MissingRecording names requests that have none."""
        asked = pa.table(  # noqa: F841
            {
                "prompt_id": [request.prompt_id for request in requests],
                "turn": [request.turn for request in requests],
            }
        )
        rows = self._connection.sql(
            "select prompt_id, turn, text from recorded join asked using (prompt_id, turn)"
        ).fetchall()
        texts = {(prompt_id, turn): text for prompt_id, turn, text in rows}
        keys = [(request.prompt_id, request.turn) for request in requests]
        lacking = [prompt_id for prompt_id, turn in keys if (prompt_id, turn) not in texts]
        if lacking:
            raise MissingRecording(
                f"{self.path}: no answer to {len(lacking)} of {len(keys)} prompts, for example "
                f"{', '.join(lacking[:3])}; every contestant of an arena answers every prompt"
            )
        return [[completed(texts[key], "recorded", 0, 0)] for key in keys]
