"""The engine that turns conversations into text: vLLM in this process, on CPU or GPU.

An engine is opened once per weights and kept until the weights change, since several contestants
and judges share them. Import of vLLM takes seconds, so it happens when the first engine is opened.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from arena_assets.config import Sampling

Message = dict[str, str]


@dataclass(frozen=True)
class Completion:
    """One answer; `finish_reason` is "stop" or "length" (cut off at max_tokens)."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class Engine(Protocol):
    """Answers conversations; the result has one list of `samples` completions a conversation."""

    def chat(
        self,
        conversations: Sequence[list[Message]],
        sampling: Sampling,
        samples: int = 1,
        json_schema: dict[str, Any] | None = None,
    ) -> list[list[Completion]]: ...


class VLLMEngine:
    """vllm.LLM over one folder of weights."""

    def __init__(self, weights: Path, seed: int, settings: dict[str, Any]):
        _prepare_environment()
        from vllm import LLM

        affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        # prefix caching pays wherever a system prompt, few-shot examples or a judge template repeat
        defaults: dict[str, Any] = {
            "enable_prefix_caching": True,
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
            # a small model fills its token limit with blanks where JSON allows them
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        }
        self._llm = LLM(model=str(weights), seed=seed, **(defaults | settings))
        if affinity:
            # vLLM's CPU worker pins the calling thread; what runs next in this process wants all
            # cores
            os.sched_setaffinity(0, affinity)

    def chat(
        self,
        conversations: Sequence[list[Message]],
        sampling: Sampling,
        samples: int = 1,
        json_schema: dict[str, Any] | None = None,
    ) -> list[list[Completion]]:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        structured = StructuredOutputsParams(json=json_schema) if json_schema else None
        parameters = SamplingParams(
            n=samples,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            repetition_penalty=sampling.repetition_penalty,
            stop=list(sampling.stop),
            structured_outputs=structured,
        )
        # the progress bar shows tokens/s; a log file gets lines instead
        outputs = self._llm.chat(list(conversations), parameters, use_tqdm=sys.stderr.isatty())
        return [
            [
                Completion(
                    completion.text,
                    str(completion.finish_reason),
                    len(output.prompt_token_ids),
                    len(completion.token_ids),
                )
                for completion in output.outputs
            ]
            for output in outputs
        ]


_open: dict[str, VLLMEngine] = {}


def open_engine(weights: Path, seed: int, settings: dict[str, Any]) -> Engine:
    """The engine of these weights, loading them unless they are the ones in use.

    One engine at a time: on a GPU a second one would not find memory.
    """
    key = repr((str(weights), seed, sorted(settings.items())))
    if key not in _open:
        close_engines()
        _open[key] = VLLMEngine(weights, seed, settings)
    return _open[key]


def close_engines() -> None:
    """Free the engine's memory, as training needs it."""
    if _open:
        _open.clear()
        gc.collect()


def _prepare_environment() -> None:
    """Settings that vLLM reads from the environment; what the user has set stays."""
    defaults = {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "TOKENIZERS_PARALLELISM": "false",
    }
    import torch

    if not torch.cuda.is_available():
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
        defaults |= {
            # the engine in this process loads in half the time of one in a child process
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)),
            "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
            "VLLM_CPU_KVCACHE_SPACE": "2",
        }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # what vLLM says before it has set up its own logging
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])
