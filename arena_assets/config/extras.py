"""Packages that only some settings of training need, and whether they are installed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec

from arena_assets.config.training import Training

# what is imported, and the name under which pip installs it
_TRACKERS = {name: (name, name) for name in ("tensorboard", "trackio", "wandb", "mlflow")}
_ATTENTION = {
    "flash_attention_2": ("flash_attn", "flash-attn"),
    "flash_attention_3": ("flash_attn_interface", "flash-attn-3"),
}
_LIGER = ("liger_kernel", "liger-kernel")
_VLLM = ("vllm", "vllm")
_4BIT = ("bitsandbytes", "bitsandbytes")


def missing_packages(training: Training, sections: Iterable[str]) -> list[str]:
    """A sentence for each setting whose package lacks here, for some sections of training."""
    return [
        f"{setting} wants the package {name}, which is not installed here: pip install {name}"
        for setting, (module, name) in _wanted(training, sections)
        if find_spec(module) is None
    ]


def _wanted(training: Training, sections: Iterable[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    for tracker in training.report_to:
        yield f"training.report_to: {tracker}", _TRACKERS[tracker]
    if training.attention in _ATTENTION:
        yield f"training.attention: {training.attention}", _ATTENTION[training.attention]
    if training.lora and training.lora.quantise == "4bit":
        yield "training.lora.quantise: 4bit", _4BIT
    for section in sections:
        if getattr(training, section).trl.get("use_liger_kernel"):
            yield f"training.{section}.trl.use_liger_kernel", _LIGER
    if "rl" in sections and training.rl.trl.get("use_vllm"):
        yield "training.rl.trl.use_vllm", _VLLM
