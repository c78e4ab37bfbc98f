"""How an asset is told to Dagster: what stands in the project already is said only there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from arena_assets.lake.code import code_version
from arena_assets.lake.tables import TABLES


def declare(
    body: Callable[..., Any], name: str | None = None, description: str | None = None, **told: Any
) -> dg.AssetsDefinition:
    """The asset that `body` makes, with the version of the code that decides its values.

    Its name is the body's; its description is the body's docstring, or else the table's. The rest
    is for dg.asset.
    """
    name = name or body.__name__
    if description is None and not body.__doc__:
        description = TABLES[name].description
    return dg.asset(name=name, description=description, code_version=code_version(name), **told)(
        body
    )


def declare_tables(
    body: Callable[..., Any], names: Sequence[str], group_name: str, **told: Any
) -> dg.AssetsDefinition:
    """The tables that `body` makes together, each described as it is in the lake."""
    specs = [
        dg.AssetSpec(
            name,
            group_name=group_name,
            description=TABLES[name].description,
            kinds={"parquet"},
            code_version=code_version(name),
        )
        for name in names
    ]
    return dg.multi_asset(specs=specs, **told)(body)
