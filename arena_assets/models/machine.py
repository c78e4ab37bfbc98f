"""What the machine at hand has: memory, and the number type that it is fast in (`dtype: auto`).

A CPU computes in bfloat16 only where it has instructions for it (AVX-512 BF16, AMX, Arm BF16).
Elsewhere each product is emulated, which is several times slower than float32.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

AUTO = "auto"
Work = Literal["generation", "training"]

_BFLOAT16 = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16", "bf16": "Arm BF16"}
# values of ONEDNN_MAX_CPU_ISA, by which a fast CPU plays a slower one
_WITHOUT_BFLOAT16 = {
    "SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"
}  # fmt: skip


@dataclass(frozen=True)
class NumberType:
    """A torch number type by name, and in words why it was taken."""

    name: str
    reason: str


def number_type(setting: str, work: Work) -> NumberType:
    """The number type of a profile's `dtype`: for "auto" what this machine is fast in."""
    if setting != AUTO:
        return NumberType(setting, "as the profile says")
    import torch

    if torch.cuda.is_available():
        return of_gpu(torch.cuda.get_device_capability(), work)
    return of_cpu(torch.cpu.get_capabilities(), os.environ.get("ONEDNN_MAX_CPU_ISA", ""))


def of_gpu(capability: tuple[int, int], work: Work) -> NumberType:
    """bfloat16 from compute capability 8.0 on; before that float16, which no weights train in.

    >>> of_gpu((9, 0), "generation").name, of_gpu((7, 5), "generation").name
    ('bfloat16', 'float16')
    """
    version = f"a GPU of compute capability {capability[0]}.{capability[1]}"
    if capability >= (8, 0):
        return NumberType("bfloat16", f"{version} has it")
    if work == "generation":
        return NumberType("float16", f"{version} has no bfloat16")
    return NumberType("float32", f"{version} has no bfloat16, and float16 loses small gradients")


def of_cpu(capabilities: Mapping[str, Any], limit: str = "") -> NumberType:
    """bfloat16 where the CPU has instructions for it, else float32.

    `capabilities` are those of torch.cpu.get_capabilities(); `limit` is ONEDNN_MAX_CPU_ISA, the
    instruction set that the libraries were told to stay below.

    >>> of_cpu({"avx2": True}).name
    'float32'
    """
    if limit.upper() in _WITHOUT_BFLOAT16:
        return NumberType("float32", f"ONEDNN_MAX_CPU_ISA={limit} leaves no bfloat16 instructions")
    for name, words in _BFLOAT16.items():
        if capabilities.get(name):
            return NumberType("bfloat16", f"this CPU has {words}")
    return NumberType("float32", "this CPU has no bfloat16 instructions")


def available_memory() -> int:
    """Bytes that a process may still take: what is free, within the limit of its container."""
    return _memory()[0]


def free_memory_share() -> float:
    """The share of the memory that is free."""
    free, total = _memory()
    return free / total


def _memory() -> tuple[int, int]:
    """(free, total) bytes."""
    import psutil

    memory = psutil.virtual_memory()
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if not (limit.exists() and (allowed := limit.read_text().strip()).isdigit()):
        return memory.available, memory.total
    free = min(memory.available, int(allowed) - int(used.read_text()))
    return free, min(memory.total, int(allowed))
