"""`arena gain`: what was gained on the prompts that report, by seed of training and over all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from arena_assets.cli.printing import (
    Format,
    FormatOption,
    fail,
    interval,
    print_json,
    print_table,
)

_COLUMNS = ("seed", "of", "over", "gain", "gain_interval",
            "difference", "interval", "p_value", "prompts", "families")  # fmt: skip


def gain(
    lakes: Annotated[
        list[Path] | None,
        typer.Argument(help="lakes of one arena; default: the arena's own and its seeds'"),
    ] = None,
    of: Annotated[
        str, typer.Option(help="promoted, a contestant, or i03: the best of an iteration")
    ] = "promoted",
    over: Annotated[str, typer.Option(help="the same; base is the base model")] = "base",
    after: Annotated[
        str | None, typer.Option(help="the round; default: the last one rated in every lake")
    ] = None,
    measure: Annotated[
        str, typer.Option(help="of the paired difference: points, head_to_head or score")
    ] = "points",
    held_out: Annotated[
        bool, typer.Option(help="on what is held out, not on the prompts that report")
    ] = False,
    format: FormatOption = Format.table,
) -> None:
    """Print a gain in rating points and as a paired difference, a row a seed and one over all.

    The intervals (95 %) are over families of prompts; over several seeds also over those.
    """
    from arena_assets.curation.split import HELD_OUT, REPORTS
    from arena_assets.flywheel.arena import open_arena
    from arena_assets.flywheel.seed_gains import NoGain, gained
    from arena_assets.flywheel.seeds import lakes_of_seeds
    from arena_assets.ratings.paired import MEASURES

    by = next((known for known in MEASURES if known == measure), None)
    if by is None:
        fail(f"--measure: {measure!r} is none of {', '.join(MEASURES)}")
    arena = open_arena()
    own = arena.shares_with.root if arena.shares_with else arena.lake.root
    roots = [path.resolve() for path in lakes] if lakes else lakes_of_seeds(own)
    purposes = (HELD_OUT,) if held_out else REPORTS
    try:
        found = gained(roots, of, over, after, by, purposes)
    except NoGain as none:
        fail(str(none))
    rows: list[dict[str, Any]] = [
        {
            "seed": one.name, "of": one.of, "over": one.over,
            "gain": one.points.difference, "gain_lower": one.points.lower,
            "gain_upper": one.points.upper, "difference": one.share.difference,
            "lower": one.share.lower, "upper": one.share.upper, "p_value": one.share.p_value,
            "prompts": one.share.prompts, "families": one.share.families,
        }
        for one in found
    ]  # fmt: skip
    if format is Format.json:
        print_json({"after": found[0].after, "purposes": list(purposes), "gains": rows})
        return
    where = "what is held out" if held_out else "the prompts that report"
    shown = [
        row
        | {
            "gain": f"{row['gain']:+.0f}",
            "gain_interval": interval(row["gain_lower"], row["gain_upper"], "+.0f"),
            "difference": f"{row['difference']:+.3f}",
            "interval": interval(row["lower"], row["upper"], "+.3f"),
            "p_value": f"{row['p_value']:.3f}",
        }
        for row in rows
    ]
    print_table(f"gain after {found[0].after} on {where}", _COLUMNS, shown)
