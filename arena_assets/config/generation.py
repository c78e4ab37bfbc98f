"""How answers are generated on this machine."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from arena_assets.config.settings import Settings


class Generation(Settings):
    """The vLLM engine; `engine` is handed to vllm.LLM as it is (tensor_parallel_size, ...).

    But for `dtype`: left out or auto, it is the number type that this machine is fast in.
    """

    batch: int = Field(256, gt=0, description="prompts asked together; a shard of the store each")
    engine: dict[str, Any] = Field(default_factory=dict)
