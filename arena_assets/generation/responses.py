"""Responses: every contestant answers every prompt; what is in the store is not generated again.

Text is generated in batches, and every finished batch is appended to the store, so a run that is
killed goes on where it was. The partition of the responses table is then a look-up of the store by
key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from arena_assets.generation.contestants import Contestant, Message
from arena_assets.generation.engines import Completion, Engine
from arena_assets.judging.constraints import parse_constraints
from arena_assets.judging.verifier import verify
from arena_assets.store import Store, content_key

STORE_SCHEMA = pa.schema(
    [
        ("response_id", pa.string()),
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("sample", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Prompt:
    """What a contestant is asked, and the constraints its answer is checked against."""

    prompt_id: str
    messages: list[Message]
    constraints: str


@dataclass(frozen=True)
class Progress:
    """What one call made anew, beside what it found in the store."""

    generated: int
    found: int
    completion_tokens: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return self.completion_tokens / self.seconds if self.seconds else 0.0


class MissingRecording(ValueError):
    """A recorded contestant that has no answer to some of the prompts."""


def open_store(lake_root: Path) -> Store:
    """The store of generated answers of a lake; all rounds share it."""
    return Store(lake_root / "store" / "responses", STORE_SCHEMA, "response_id")


def respond(
    contestant: Contestant,
    prompts: Sequence[Prompt],
    store: Store,
    engine: Callable[[], Engine],
    seed: int,
    batch: int,
    log: Callable[[str], None],
) -> tuple[list[dict[str, Any]], Progress]:
    """One contestant's answers in the order of `prompts`, as rows without the round.

    `engine` is called only where something has to be generated.
    """
    if contestant.recorded is not None:
        return _recorded_rows(contestant, prompts), Progress(0, len(prompts), 0, 0.0)
    keys = {
        prompt.prompt_id: contestant.response_key(prompt.messages, prompt.constraints, seed)
        for prompt in prompts
    }
    missing = store.missing(list(keys.values()))
    # two prompts of the same words share a key and an answer
    todo = list({keys[p.prompt_id]: p for p in prompts if keys[p.prompt_id] in missing}.items())
    started, tokens, done = time.monotonic(), 0, 0
    answering = engine() if todo else None
    loaded = time.monotonic()
    if loaded - started > 1:
        log(f"{contestant.name}: engine ready after {loaded - started:.0f} s")
    for part in _batches(todo, batch):
        completions = answering.chat(
            [contestant.render(prompt.messages) for _, prompt in part],
            contestant.sampling,
            samples=contestant.best_of,
        )
        store.append(
            [
                {"response_id": key, **_best(prompt, samples)}
                for (key, prompt), samples in zip(part, completions, strict=True)
            ]
        )
        tokens += sum(sample.completion_tokens for samples in completions for sample in samples)
        done += len(part)
        log(
            f"{contestant.name}: {done}/{len(todo)} answers, "
            f"{tokens / (time.monotonic() - loaded):.0f} tokens/s"
        )
    progress = Progress(
        len(todo), len(prompts) - len(todo), tokens, time.monotonic() - loaded if todo else 0.0
    )
    found = {row["response_id"]: row for row in store.select(list(keys.values())).to_pylist()}
    rows = [_row(contestant, prompt.prompt_id, found[keys[prompt.prompt_id]]) for prompt in prompts]
    return rows, progress


def _best(prompt: Prompt, samples: Sequence[Completion]) -> dict[str, Any]:
    """The sample that the verifier scores highest; the first of equals."""
    constraints = parse_constraints(prompt.constraints)
    best = 0
    if len(samples) > 1 and constraints:
        scores = [verify(constraints, sample.text).score for sample in samples]
        best = scores.index(max(scores))
    return asdict(samples[best]) | {"sample": best}


def _row(contestant: Contestant, prompt_id: str, answer: dict[str, Any]) -> dict[str, Any]:
    weights = contestant.weights
    prompt = contestant.system_prompt
    return {
        "response_id": answer["response_id"],
        "prompt_id": prompt_id,
        "contestant": contestant.name,
        "role": contestant.role,
        "model": weights.name if weights else "recorded",
        "model_digest": weights.digest if weights else "recorded",
        "system_prompt": prompt.version if prompt else "none",
        "sampling": contestant.sampling_json() if weights else "{}",
        "text": answer["text"],
        "finish_reason": answer["finish_reason"],
        "prompt_tokens": answer["prompt_tokens"],
        "completion_tokens": answer["completion_tokens"],
        "sample": answer["sample"],
    }


def _recorded_rows(contestant: Contestant, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """The recorded author's answers to these prompts; MissingRecording where it has none."""
    texts = read_recording(contestant.recorded)
    lacking = [prompt.prompt_id for prompt in prompts if prompt.prompt_id not in texts]
    if lacking:
        raise MissingRecording(
            f"{contestant.recorded}: no answer to {len(lacking)} of {len(prompts)} prompts, for "
            f"example {', '.join(lacking[:3])}; every contestant of an arena answers every prompt"
        )
    return [
        _row(
            contestant,
            prompt.prompt_id,
            {
                "response_id": content_key("recorded", contestant.name, texts[prompt.prompt_id]),
                "text": texts[prompt.prompt_id],
                "finish_reason": "recorded",
                "prompt_tokens": 0,
                "completion_tokens": 0,
                "sample": 0,
            },
        )
        for prompt in prompts
    ]


def read_recording(path: Path) -> dict[str, str]:
    """Recorded answers by prompt_id, from JSONL or Parquet with the columns prompt_id and text."""
    with duckdb.connect() as connection:
        relation = (
            connection.read_parquet(str(path))
            if path.suffix == ".parquet"
            else connection.read_json(str(path), format="newline_delimited")
        )
        lacking = {"prompt_id", "text"} - set(relation.columns)
        if lacking:
            raise ValueError(
                f"{path}: columns {', '.join(sorted(lacking))} missing (there: {relation.columns})"
            )
        return dict(relation.select("prompt_id, text").fetchall())


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
