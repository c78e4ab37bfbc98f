"""The whole weights of a model that training may have shared out over processes."""

from __future__ import annotations

from typing import Any

import torch
from accelerate.utils import DistributedType


def gathered(trainer: Any) -> dict[str, torch.Tensor]:
    """The weights that were optimised, in their own number type, by name.

    Every process has to call it; where weights are shared out (FSDP, ZeRO-3), those of the first
    one get them, in the memory of the host, and the others nothing of use. Of weights that a model
    has under two names only the one that is saved is there.
    """
    accelerator, model = trainer.accelerator, trainer.model_wrapped
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        weights = _float32_of_deepspeed(model, trainer.is_world_process_zero())
    else:
        weights = accelerator.get_state_dict(model)
    twice = getattr(accelerator.unwrap_model(model), "all_tied_weights_keys", {})
    return {name: weight for name, weight in weights.items() if name not in twice}


def _float32_of_deepspeed(engine: Any, first: bool) -> dict[str, torch.Tensor]:
    """The masters in float32; its own gathering gives the copy that products are made of."""
    from deepspeed.utils import safe_get_full_fp32_param

    weights = {}
    for name, parameter in engine.module.named_parameters():
        whole = safe_get_full_fp32_param(parameter)  # every process takes part
        if first:
            weights[name] = whole.cpu()
    return weights
