"""`arena leaderboard`, `status` and `judges`: what the rounds so far came to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from arena_assets.cli.printing import Format, FormatOption, fail, print_json, print_table


def leaderboard(
    after: Annotated[
        str | None, typer.Option(help="the round; default: the last one rated")
    ] = None,
    format: FormatOption = Format.table,
) -> None:
    """Print the ratings after a round, best first, with their 95 % intervals."""
    from arena_assets.flywheel.arena import open_arena
    from arena_assets.generation.best_of import note_on_picks

    arena = open_arena()
    rated = arena.lake.partitions("leaderboard")
    key = after or (rated[-1] if rated else None)
    if key is None or key not in rated:
        fail(
            f"no leaderboard for {key or 'any round'} (there: {', '.join(rated) or 'none'}); "
            "run `arena run`"
        )
    rows = arena.lake.query("select * from board order by rating desc", board=("leaderboard", key))
    columns = ("rank", "contestant", "rating", "lower", "upper", "points", "mean_score", "battles")
    # a board of an earlier version may lack what boards have now
    board = [dict.fromkeys(columns) | row for row in rows.to_pylist()]
    comparison, note = _progress(arena, key, board), note_on_picks(arena.profile)
    if format is Format.json:
        print_json({"round": key, "leaderboard": board, "progress": comparison, "note": note})
        return
    print_table(f"leaderboard after {key}", columns, board)
    if note:
        typer.echo(note)
    if comparison:
        apart = "apart" if comparison["intervals_separated"] else "overlapping"
        typer.echo(
            f"promoted: {comparison['promoted']}, {comparison['gain']:+.0f} over the base model "
            f"(95 % intervals {apart})"
        )


def _progress(arena: Any, key: str, board: list[dict[str, Any]]) -> dict[str, Any] | None:
    """How the promoted model stands to the base model; None before the first promotion."""
    if not arena.lake.exists("promotions", key):
        return None
    (promoted,) = arena.lake.read("promotions", key).to_pylist()
    by_name = {row["contestant"]: row for row in board}
    base, best = by_name.get("base"), by_name.get(promoted["contestant"])
    if base is None or best is None:
        return None
    return {
        "base": base["contestant"],
        "promoted": best["contestant"],
        "gain": best["rating"] - base["rating"],
        "intervals_separated": best["lower"] > base["upper"],
    }


def status(format: FormatOption = Format.table) -> None:
    """Print every round: its state, what it fights with, what it trains on, what it promoted."""
    from arena_assets.cli.wheel import round_states
    from arena_assets.flywheel.arena import open_arena

    states = round_states(open_arena())
    if format is Format.json:
        print_json(states)
        return
    columns = ("round", "state", "slice", "minimum_gap", "fights_with", "trains_from", "trains_on")
    print_table("rounds", (*columns, "promoted", "rating", "out_of_date", "because"), states)


def judges(
    round: Annotated[
        str | None, typer.Option(help="the round; default: the last one judged")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="compare with people: prompt_id, contestant_a, contestant_b, winner"),
    ] = None,
    testset: Annotated[
        bool, typer.Option(help="the battles on the arena test set, not the round's own")
    ] = False,
    format: FormatOption = Format.table,
) -> None:
    """Print how each judge of a round behaved, and how far it agrees with the one that decides."""
    from arena_assets.flywheel.arena import open_arena
    from arena_assets.judging.audit import audit_judges, judge_prices

    arena = open_arena()
    judged = arena.lake.partitions("arena_battles" if testset else "battles")
    key = round or (judged[-1] if judged else None)
    if key is None or key not in judged:
        fail(f"no battles of {key or 'any round'} (there: {', '.join(judged) or 'none'})")
    try:
        audit = audit_judges(arena.lake, key, judge_prices(arena.profile), labels, testset)
    except ValueError as error:
        fail(str(error))
    rows = audit.to_pylist()
    if format is Format.json:
        print_json(rows)
        return
    names = audit.column_names
    behaviour, cut = names[1:11], names.index("reference")
    print_table(f"judges of {key}", behaviour, rows)
    against = "labels" if labels else "the judge that decides"
    print_table(f"agreement with {against}, and cost", ("judge", *names[cut:]), rows, "unknown")
