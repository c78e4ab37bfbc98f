"""Assets that record what they were made from, so that only what is up to date may say "done"."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import dagster as dg

from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.made_from import Making
from arena_assets.flywheel.weights import BrokenChain
from arena_assets.lake.lake import ALL, UnmigratedStore
from arena_assets.training.checkpoints import CorruptCheckpoint


def recorded(asset: Callable[..., Any], table: str | None = None) -> Callable[..., Any]:
    """Record beside the asset's partition the inputs as they were when it began.

    It stands below what declares the asset; the table has the function's name unless told. What
    changes while the asset works makes it out of date, also where it was read after the change. A
    round that cannot start, and weights that are not the recorded ones, fail the asset with the
    sentence that says why.
    """

    @functools.wraps(asset)
    def recording(*args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(asset).bind(*args, **kwargs).arguments
        context, arena = given["context"], given["arena"]
        partition = context.partition_key if context.has_partition_key else ALL
        name = table or asset.__name__
        try:
            making = Making(arena, [name], partition)
            result = asset(*args, **kwargs)
        except (BrokenChain, CorruptCheckpoint) as broken:
            raise dg.Failure(str(broken), allow_retries=False) from broken
        making.ended(name)
        return result

    return recording


def refuse_unmigrated(arena: Arena) -> None:
    """dg.Failure where the lake has paid work of an earlier version, which would be made anew."""
    try:
        arena.lake.refuse_unmigrated()
    except UnmigratedStore as unmigrated:
        raise dg.Failure(str(unmigrated), allow_retries=False) from unmigrated
