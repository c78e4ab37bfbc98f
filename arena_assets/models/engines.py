"""What answers conversations, behind one small interface: vLLM, a server, or a recording.

An engine is opened once per model and kept until another model is asked for, since several
contestants and judges share weights. Heavy libraries are imported when an engine is opened.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from arena_assets.config.models import Endpoint, Sampling
from arena_assets.lake.code import code_version
from arena_assets.lake.identity import identity
from arena_assets.models.machine import free_memory_share
from arena_assets.models.reasoning import split_reasoning

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
    filter), "error" (with `error`, and without text), "unknown", or a server's own word where it
    is none of the known ones. `reasoning` is what the model thought before it answered. Tokens are
    those that were paid for with this sample, None where nobody says: samples of one call share a
    prompt, which counts with the first. `dtype` is the number type that the model computed in, None
    where nobody says.
    """

    text: str
    finish_reason: str
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    error: str | None = None
    reasoning: str | None = None
    dtype: str | None = None


def completed(
    text: str,
    finish_reason: str,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    reasoning: str | None = None,
    dtype: str | None = None,
) -> Completion:
    """What a model said, with its reasoning apart; `reasoning` is what a server split off already.

    The text is empty where the model did nothing but think. `dtype` is what the model computed in.
    """
    thought, answer = split_reasoning(text)
    thoughts = "\n\n".join(part for part in (reasoning, thought) if part) or None
    return Completion(
        answer, finish_reason, prompt_tokens, completion_tokens, None, thoughts, dtype
    )


def total(*tokens: int | None) -> int | None:
    """A sum of tokens; unknown where a part is."""
    return None if None in tokens else sum(tokens)


class Engine(Protocol):
    """Answers requests; the result has one list of `samples` completions a request, in order.

    What goes wrong with a single request is a completion of its own. An engine that cannot go on at
    all raises BackendDown.
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
    `path` is its file, cannot be trained. `engine` are the settings of vllm.LLM, where that is what
    loads it, that may change what the model says.
    """

    name: str
    path: Path | None
    digest: str
    trust_remote_code: bool = False
    chat_template: str | None = None
    endpoint: Endpoint | None = None
    recorded: bool = False
    engine: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def identity(self) -> str:
        """The hash of what determines what the model says, but for what it is asked and how."""
        kind = "local engine"
        if self.recorded or self.endpoint:
            kind = "recording" if self.recorded else "served engine"
        code = code_version(kind)
        return identity("model", kind=kind, code=code, weights=self.digest, engine=self.engine)


class BackendDown(RuntimeError):
    """The backend is gone or refuses everybody, and going on is no use; says why, in a sentence."""


_open: dict[str, Engine] = {}
_SPARE_SHARE = 0.5  # of the memory


def open_engine(weights: Weights, seed: int, settings: dict[str, Any]) -> Engine:
    """The engine of these weights, opened unless it is open.

    On a GPU one vLLM engine at a time, since a second one would not find memory; on a CPU those of
    other weights stay open while memory allows. `settings` are those of vllm.LLM.
    """
    key = repr((weights, seed, sorted(settings.items())))
    if key not in _open:
        if not (weights.recorded or weights.endpoint):
            make_room()
        _open[key] = _new_engine(weights, seed, settings)
    return _open[key]


def _new_engine(weights: Weights, seed: int, settings: dict[str, Any]) -> Engine:
    if weights.recorded:
        from arena_assets.models.recorded import RecordedEngine

        return RecordedEngine(weights.path)
    if weights.endpoint:
        from arena_assets.models.served.openai_engine import OpenAIEngine

        return OpenAIEngine(weights.endpoint)
    from arena_assets.models.vllm_engine import VLLMEngine

    return VLLMEngine(weights, seed, settings)


def make_room() -> None:
    """Close the engines, unless they are on a CPU that still has half of its memory free.

    Training and other engines need the memory; an engine that stays need not be opened again.
    """
    import torch

    if _open and (torch.cuda.is_available() or free_memory_share() < _SPARE_SHARE):
        _open.clear()
        gc.collect()
