"""Arena Assets: Arena Learning as Dagster assets, an open data flywheel for LLM post-training.

What other programs may call is listed in `__all__` (docs/api.md); a name is loaded when it is first
asked for, so that `import arena_assets` takes no time. All else may change at any time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

# No library that comes with us reports anything to anybody. The variables are read at import, so
# this is the one place that comes before all of them; what the user has set stays.
for _name, _value in {
    "DO_NOT_TRACK": "1",  # dbt and others
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
}.items():
    os.environ.setdefault(_name, _value)

if TYPE_CHECKING:
    from pathlib import Path

    from arena_assets.flywheel.arena import Arena, open_arena
    from arena_assets.lake.lake import Lake
    from arena_assets.ratings.battles import Battles, read_battles
    from arena_assets.ratings.bradley_terry import Anchor, Intervals, rate

__all__ = [
    "Anchor",
    "Arena",
    "Battles",
    "Intervals",
    "Lake",
    "export_model",
    "open_arena",
    "rate",
    "read_battles",
    "run_round",
]

_HOMES = {
    "Anchor": "ratings.bradley_terry",
    "Arena": "flywheel.arena",
    "Battles": "ratings.battles",
    "Intervals": "ratings.bradley_terry",
    "Lake": "lake.lake",
    "open_arena": "flywheel.arena",
    "rate": "ratings.bradley_terry",
    "read_battles": "ratings.battles",
}


def run_round(key: str, log: Callable[[str], None] = print) -> list[str]:
    """Turn the wheel up to a round of the arena that ARENA_PROFILE and ARENA_LAKE name.

    What comes before it and is not done is turned first, as by `arena run --until KEY`. Returns the
    rounds that were turned, none where all were done; `log` is told what happens, a line at a time.
    Raises UnknownRound (a KeyError), and WheelStopped (a RuntimeError) where a step or a check
    failed.
    """
    from arena_assets.cli.wheel import turn

    return turn(key, log)


def export_model(name: str, folder: str | Path, masters: bool = False) -> Path:
    """Write a model of the arena that ARENA_PROFILE and ARENA_LAKE name as a Hugging Face folder.

    `name` is base, a round, promoted, or the first digits of a digest; `masters` takes the weights
    that training goes on from. Gives the folder, which is new or was empty. Raises RegistryError
    and CorruptCheckpoint (both a RuntimeError).
    """
    from pathlib import Path

    from arena_assets.flywheel.arena import open_arena
    from arena_assets.flywheel.exporting import export
    from arena_assets.flywheel.registry import resolve

    arena = open_arena()
    return export(arena, resolve(arena, name), Path(folder), masters)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"arena_assets.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'arena_assets' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
