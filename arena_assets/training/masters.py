"""The two copies of trained weights: float32 masters to train on from, bfloat16 to fight with.

At the learning rates of DPO and RL a step is smaller than the distance between two neighbours in
bfloat16: weights that are rounded to it after every stage stay what they were. A checkpoint keeps
both, each a folder that transformers opens:

    i01.2-dpo/  config.json  model.safetensors  tokenizer.json ...     bfloat16, what vLLM loads
    i01.2-dpo/masters/  config.json  model.safetensors                 float32, what training loads

Where training is in float32 alone, the weights of the folder itself are that and there are no
others.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from arena_assets.training.checkpoints import MASTERS

_CONFIG = "config.json"


def weights_of(folder: Path) -> Path:
    """Where the weights of a model lie that training starts from: its masters, if it has any."""
    masters = folder / MASTERS
    return masters if masters.is_dir() else folder


def copy_in_bfloat16(masters: Path, folder: Path) -> None:
    """Write a model of float32 weights into another folder in bfloat16, a file at a time."""
    for file in sorted(masters.iterdir()):
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as weights:
                names, metadata = list(weights.keys()), weights.metadata()
                copy = {name: _rounded(weights.get_tensor(name)) for name in names}
            save_file(copy, folder / file.name, metadata)
        elif file.name == _CONFIG:
            config = _in_bfloat16(json.loads(file.read_text("utf-8")))
            (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        else:
            shutil.copyfile(file, folder / file.name)


def _rounded(weights: torch.Tensor) -> torch.Tensor:
    return weights.to(torch.bfloat16) if weights.is_floating_point() else weights


def _in_bfloat16(config: Any) -> Any:
    """A configuration that says bfloat16 where it said float32, of its parts as well."""
    if not isinstance(config, dict):
        return config
    said = {name: _in_bfloat16(value) for name, value in config.items()}
    return said | ({"dtype": "bfloat16"} if said.get("dtype") == "float32" else {})


def moved(parent: Path, folder: Path) -> dict[str, float]:
    """The shares of weights (0-1) that differ from the parent's, by the type that they are kept in.

    `float32` is told where both keep it, `bfloat16` of what both are when rounded to it. Weights
    that only one of them has (the head of a reward model) do not count; empty where all are such.
    """
    before, after = _tensors(weights_of(parent)), _tensors(weights_of(folder))
    count, changed = 0, {torch.float32: 0, torch.bfloat16: 0}
    masters = False
    for name in before.keys() & after.keys():
        old, new = _read(before[name], name), _read(after[name], name)
        if old.shape != new.shape or not new.is_floating_point():
            continue
        masters = masters or new.dtype == torch.float32
        count += new.numel()
        for kind in changed:
            changed[kind] += int((old.to(kind) != new.to(kind)).sum())
    if not count:
        return {}
    shares = {str(kind).removeprefix("torch."): told / count for kind, told in changed.items()}
    return shares if masters else {"bfloat16": shares["bfloat16"]}


def _tensors(folder: Path) -> dict[str, Path]:
    """The file of each tensor of a model."""
    return dict(_named(folder))


def _named(folder: Path) -> Iterator[tuple[str, Path]]:
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            yield from ((name, file) for name in weights.keys())  # noqa: SIM118 (no mapping)


def _read(file: Path, name: str) -> torch.Tensor:
    with safe_open(file, "pt") as weights:
        return weights.get_tensor(name)
