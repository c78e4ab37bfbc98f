"""How answers are generated on this machine."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from arena_assets.config.settings import Settings
from arena_assets.lake.identity import NOT_IDENTITY, As

# Settings of vllm.LLM with which a model says the same, but for the last bits of a number: memory,
# speed, how work is split, logs. Any other one counts, also one that is not known here.
_SAME_TEXT: Final = frozenset(
    {
        *("gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override"),
        *("block_size", "swap_space", "cpu_offload_gb", "cpu_offload_params", "offload_backend"),
        *("offload_group_size", "offload_num_in_group", "offload_prefetch_step", "offload_params"),
        *("kv_offloading_size", "kv_offloading_backend", "enable_sleep_mode"),
        *("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "nnodes"),
        *("distributed_executor_backend", "enable_expert_parallel", "device_ids", "numa_bind"),
        *("disable_custom_all_reduce", "max_parallel_loading_workers", "renderer_num_workers"),
        *("enforce_eager", "compilation_config", "optimization_level", "performance_mode"),
        *("cudagraph_capture_sizes", "max_cudagraph_capture_size", "async_scheduling"),
        *("enable_prefix_caching", "prefix_caching_hash_algo", "enable_chunked_prefill"),
        *("max_num_seqs", "max_num_batched_tokens", "max_num_queued_reqs", "scheduling_policy"),
        *("long_prefill_token_threshold", "stream_interval", "disable_cascade_attn"),
        *("disable_log_stats", "log_level", "use_tqdm_on_load", "show_hidden_metrics_for_version"),
        *("kv_cache_metrics", "cudagraph_metrics", "collect_detailed_traces", "profiler_config"),
        *("otlp_traces_endpoint", "load_format", "safetensors_load_strategy", "download_dir"),
        *("hf_token", "served_model_name", "max_logprobs", "shutdown_timeout"),
    }
)
_SAME_TYPE: Final = {"half": "float16", "float": "float32"}  # vLLM's other names


def changing_text(engine: dict[str, Any]) -> dict[str, Any]:
    """Those of the settings of vllm.LLM that may change what a model says.

    `dtype: auto` is none of them: the number type is then the machine's affair, and the same
    contestant's answers on another machine are its answers too. A row says in which it was made.
    """
    said = {name: value for name, value in engine.items() if name not in _SAME_TEXT}
    dtype = said.pop("dtype", "auto")
    return said if dtype == "auto" else {**said, "dtype": _SAME_TYPE.get(dtype, dtype)}


def names_of_type(dtype: str) -> list[str]:
    """A number type as vLLM may call it: its own name, then the others."""
    return [dtype, *(other for other, name in _SAME_TYPE.items() if name == dtype)]


class Generation(Settings):
    """The vLLM engine; `engine` is handed to vllm.LLM as it is (tensor_parallel_size, ...).

    But for `dtype`: left out or auto, it is the number type that this machine is fast in.
    """

    batch: Annotated[int, NOT_IDENTITY] = Field(
        256, gt=0, description="prompts asked together; a shard of the store each"
    )
    engine: Annotated[dict[str, Any], As(changing_text)] = Field(default_factory=dict)
