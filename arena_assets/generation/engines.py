"""What answers conversations, behind one small interface: vLLM, a server, or a recording.

An engine is opened once per model and kept until another model is asked for, since several
contestants and judges share weights. Heavy libraries are imported when an engine is opened.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from arena_assets.config import Endpoint, Sampling

Message = dict[str, str]


@dataclass(frozen=True)
class Request:
    """A conversation that waits for an answer; `turn` counts the answers that it already has."""

    prompt_id: str
    messages: list[Message]
    turn: int = 0


@dataclass(frozen=True)
class Completion:
    """One answer, or the reason why there is none.

    `finish_reason` is "stop", "length" (cut off at max_tokens), "recorded", "refused" (a content
    filter) or "error"; the last one comes with `error` and without text.
    """

    text: str
    finish_reason: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None


class Engine(Protocol):
    """Answers requests; the result has one list of `samples` completions a request, in order.

    What goes wrong with a single request is a completion of its own; an engine that cannot go on at
    all raises.
    """

    def chat(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        samples: int = 1,
        json_schema: dict[str, Any] | None = None,
    ) -> list[list[Completion]]: ...


@dataclass(frozen=True)
class Weights:
    """A model and the digest of what determines its answers.

    `path` is a folder that vLLM and TRL load; a model behind an `endpoint` and a recording, whose
    `path` is its file, cannot be trained.
    """

    name: str
    path: Path | None
    digest: str
    trust_remote_code: bool = False
    chat_template: str | None = None
    endpoint: Endpoint | None = None
    recorded: bool = False


class BackendDown(RuntimeError):
    """Not one request of a batch was answered: the backend is gone, and going on is no use."""


_open: dict[str, Engine] = {}


def open_engine(weights: Weights, seed: int, settings: dict[str, Any]) -> Engine:
    """The engine of these weights, opened unless it is open.

    One vLLM engine at a time: on a GPU a second one would not find memory. Servers and recordings
    take none and leave it open. `settings` are those of vllm.LLM.
    """
    key = repr((weights, seed, sorted(settings.items())))
    if key not in _open:
        if not (weights.recorded or weights.endpoint):
            close_engines()
        _open[key] = _new_engine(weights, seed, settings)
    return _open[key]


def _new_engine(weights: Weights, seed: int, settings: dict[str, Any]) -> Engine:
    if weights.recorded:
        from arena_assets.generation.recorded import RecordedEngine

        return RecordedEngine(weights.path)
    if weights.endpoint:
        from arena_assets.generation.openai_engine import OpenAIEngine

        return OpenAIEngine(weights.endpoint)
    from arena_assets.generation.vllm_engine import VLLMEngine

    return VLLMEngine(weights, seed, settings)


def close_engines() -> None:
    """Free the engine's memory, as training needs it."""
    if _open:
        _open.clear()
        gc.collect()


def refuse_silence(who: str, completions: Sequence[Sequence[Completion]]) -> None:
    """BackendDown where every single request of a batch came back with an error."""
    errors = [samples[0].error for samples in completions if samples[0].error]
    if errors and len(errors) == len(completions):
        raise BackendDown(
            f"{who}: none of {len(errors)} requests was answered ({errors[0]}); what was finished "
            "is kept: mend the backend and materialize again"
        )
