"""Checkpoints that are an adapter alone: what their folder says, and whether one can be trained on.

    i01.1-sft/  adapter_model.safetensors  adapter_config.json  base.json  tokenizer.json ...

base.json names the base weights with their digest; it is part of the checkpoint's own digest.
"""

from __future__ import annotations

import json
from pathlib import Path

from arena_assets.config.training import LoRA

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
BASE = "base.json"


def is_adapter(folder: Path) -> bool:
    return (folder / CONFIG).exists()


def settle(folder: Path, name: str, origin: str, digest: str) -> None:
    """Write down what base an adapter belongs to, in a form that is the same on every machine.

    `name` is the base's in the profile, `origin` where it comes from, `digest` that of its weights.
    """
    path = folder / CONFIG
    config = json.loads(path.read_text("utf-8"))
    config["base_model_name_or_path"] = origin
    if isinstance(config["target_modules"], list):  # peft keeps a set
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    said = {"model": name, "origin": origin, "digest": digest}
    (folder / BASE).write_text(json.dumps(said, indent=2) + "\n", "utf-8")
    (folder / "README.md").unlink(missing_ok=True)  # peft's, with nothing filled in


def rank_of(folder: Path) -> int:
    return int(json.loads((folder / CONFIG).read_text("utf-8"))["r"])


def differences(folder: Path, lora: LoRA) -> list[str]:
    """Where an adapter is another one than the settings ask for: it can't be trained on as that."""
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    pairs: list[tuple[str, object, object]] = [
        ("rank", config["r"], lora.rank),
        ("alpha", config["lora_alpha"], lora.alpha),
    ]
    if lora.target_modules != "all-linear":
        modules = ", ".join(sorted(lora.target_modules))
        pairs.append(("target_modules", ", ".join(sorted(config["target_modules"])), modules))
    return [f"{name} {theirs}, not {ours}" for name, theirs, ours in pairs if theirs != ours]
