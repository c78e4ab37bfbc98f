"""LoRA on peft: what is trained in place of all weights, and what becomes of it.

Adapters are trained in float32, over weights in float32 or in 4 bits. A checkpoint is either the
base with its adapter added (in float32) or the adapter alone. TRL's reference for DPO and RL is the
model without its adapter, or, where an adapter is trained on, a frozen copy of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from safetensors.torch import save_file

from arena_assets.training.job import Job
from arena_assets.training.kept_adapters import WEIGHTS

Task = Literal["CAUSAL_LM", "SEQ_CLS"]
_NAME = "default"  # of the adapter that is trained; TRL calls its frozen copy "ref"


def lora_of(job: Job, task: Task = "CAUSAL_LM") -> Any:
    """What TRL is told to lay over the model: peft's LoraConfig, or None.

    None too where the policy goes on with the adapter that it came with. A reward model's head is
    trained whole: it is new.
    """
    settings = job.training.lora
    if settings is None or (task == "CAUSAL_LM" and goes_on(job)):
        return None
    from peft import LoraConfig

    modules = settings.target_modules
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type=task,
        modules_to_save=["score"] if task == "SEQ_CLS" else None,
    )


def goes_on(job: Job) -> bool:
    """Whether the parent's adapter is trained on, which one that stays by itself is."""
    return bool(job.adapter and job.training.lora and not job.training.lora.merge)


def quantisation_of(job: Job) -> Any:
    """How base weights are held while an adapter is trained: transformers' setting, or None."""
    if not job.training.lora or job.training.lora.quantise == "none":
        return None
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, job.training.dtype),
        llm_int8_skip_modules=["lm_head", "score"],  # of 4 bits too, in spite of its name
    )


def with_parent_adapter(model: Any, job: Job) -> Any:
    """The base weights with the parent's adapter: as one where it is trained on, else added."""
    if not job.adapter:
        return model
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(model, job.adapter, is_trainable=goes_on(job))
    return adapted if goes_on(job) else adapted.merge_and_unload()


def has_adapter(model: Any) -> bool:
    from peft import PeftModel

    return isinstance(model, PeftModel)


def is_kept_adapter(model: Any, job: Job) -> bool:
    """Whether a model is saved as its adapter alone: a policy that is not to be merged."""
    return bool(job.training.lora and not job.training.lora.merge and not scores(model))


def scores(model: Any) -> bool:
    """Whether an adapter was laid over a reward model."""
    return bool(model.peft_config[_NAME].task_type == "SEQ_CLS")


def train_in_float32(model: Any) -> None:
    """TRL rounds the adapter of a quantised model to bfloat16, where its steps would be lost."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def write_adapter(model: Any, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """An adapter as peft and vLLM load it; `weights` is the state of the whole model."""
    from peft import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    own = get_peft_model_state_dict(model, state_dict=weights, adapter_name=_NAME)
    own = {name: tensor.detach().float().cpu().contiguous() for name, tensor in own.items()}
    save_file(own, folder / WEIGHTS, {"format": "pt"})
    config = model.peft_config[_NAME]
    config.inference_mode = True
    config.save_pretrained(folder)


def merged(model: Any, weights: Mapping[str, torch.Tensor], base: Any) -> Any:
    """A model's adapter added to `base`, the same weights loaded anew in float32.

    They are loaded anew because the trained model may hold them in 4 bits, or in parts.
    """
    from peft import PeftModel

    with TemporaryDirectory() as folder:
        write_adapter(model, weights, Path(folder))
        return PeftModel.from_pretrained(base, folder).merge_and_unload(safe_merge=True)
