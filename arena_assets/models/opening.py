"""The engines that are open in this process.

An engine is opened once a model and kept until another model is asked for, since several
contestants and judges share weights.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

from arena_assets.models.engine import Engine
from arena_assets.models.machine import free_memory_share
from arena_assets.models.model import Local, Model

_open: dict[str, Engine] = {}
_SPARE_SHARE = 0.5  # of the memory


def open_engine(model: Model, seed: int, settings: Mapping[str, Any]) -> Engine:
    """The engine of a model, opened unless it is open.

    On a GPU one vLLM engine at a time, since a second one would not find memory; on a CPU those of
    other weights stay open while memory allows. `settings` are those of vllm.LLM. An adapter is
    asked through the engine of its base, so that weights are loaded once.
    """
    if isinstance(model, Local) and model.base:
        from arena_assets.models.vllm_engine import VLLMEngine

        engine = open_engine(model.base, seed, settings)
        assert isinstance(engine, VLLMEngine), "weights of this machine"
        return engine.with_adapter(model.name, model.path)
    key = repr((model, seed, sorted(settings.items())))
    if key not in _open:
        if isinstance(model, Local):
            make_room()
        _open[key] = model.open(seed, settings)
    return _open[key]


def make_room() -> None:
    """Close the engines, unless they are on a CPU that still has half of its memory free.

    Training and other engines need the memory; an engine that stays need not be opened again.
    """
    import torch

    if _open and (torch.cuda.is_available() or free_memory_share() < _SPARE_SHARE):
        _open.clear()
        gc.collect()
