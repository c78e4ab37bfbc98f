"""vLLM in this process, on CPU or GPU, over one folder of weights."""

from __future__ import annotations

import copy
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arena_assets.config.models import Sampling
from arena_assets.config.places import resolve
from arena_assets.models.engine import Completion, Request, completed
from arena_assets.models.machine import AUTO, number_type


class VLLMEngine:
    """vllm.LLM; a request that does not fit into the context becomes an error of its own."""

    def __init__(
        self, path: Path, seed: int, settings: Mapping[str, Any], chat_template: str | None = None
    ):
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
        self._dtype = number_type(settings.get("dtype", AUTO), "generation").name
        settings = {**defaults, **settings, "dtype": self._dtype}
        self._llm = LLM(model=str(path), seed=seed, **settings)
        self._adapters: dict[Path, int] = {}  # numbered as vLLM wants it
        self._lora: Any = None
        self._template = resolve(chat_template).read_text("utf-8-sig") if chat_template else None
        if affinity:
            # vLLM's CPU worker pins the calling thread; what runs next in this process wants all
            # cores
            os.sched_setaffinity(0, affinity)

    def with_adapter(self, name: str, folder: Path) -> VLLMEngine:
        """The same engine, asked through a LoRA adapter over its weights."""
        from vllm.lora.request import LoRARequest

        number = self._adapters.setdefault(folder, len(self._adapters) + 1)
        adapted = copy.copy(self)
        adapted._lora = LoRARequest(name, number, str(folder))
        return adapted

    def chat(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        samples: int = 1,
        json_schema: dict[str, Any] | None = None,
    ) -> list[list[Completion]]:
        """As of Engine; on a CPU a seed is the engine's, from the first request on."""
        from vllm import SamplingParams
        from vllm.platforms import current_platform
        from vllm.sampling_params import StructuredOutputsParams
        from vllm.utils.torch_utils import set_random_seed

        on_cpu = current_platform.is_cpu()
        if on_cpu and sampling.seed is not None:
            set_random_seed(sampling.seed)
        structured = StructuredOutputsParams(json=json_schema) if json_schema else None
        parameters = SamplingParams(
            n=samples,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            repetition_penalty=sampling.repetition_penalty,
            stop=list(sampling.stop),
            # vLLM stops on a CPU where a request has a seed and its prompt is computed in pieces
            seed=None if on_cpu else sampling.seed,
            structured_outputs=structured,
        )
        return self._answer(requests, parameters)

    def _answer(self, requests: Sequence[Request], parameters: Any) -> list[list[Completion]]:
        """All at once; where vLLM refuses a conversation, halves find out which one."""
        if not requests:
            return []
        try:
            outputs = self._llm.chat(
                [request.messages for request in requests],
                parameters,
                chat_template=self._template,
                lora_request=self._lora,
                # the progress bar shows tokens/s; a log file gets lines instead
                use_tqdm=sys.stderr.isatty(),
            )
        except ValueError as error:  # a prompt that is too long, or that the template refuses
            if len(requests) == 1:
                return [[Completion("", "error", error=str(error))] * parameters.n]
            middle = len(requests) // 2
            return self._answer(requests[:middle], parameters) + self._answer(
                requests[middle:], parameters
            )
        return [
            [
                completed(
                    completion.text,
                    completion.finish_reason or "unknown",
                    0 if number else len(output.prompt_token_ids),
                    len(completion.token_ids),
                    dtype=self._dtype,
                )
                for number, completion in enumerate(output.outputs)
            ]
            for output in outputs
        ]


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
