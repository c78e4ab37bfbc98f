"""`arena leaderboard`, `status` and `judges`: what the rounds so far came to."""

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

_BOARD = ("rank", "contestant", "rating", "interval", "points", "mean_score", "battles",
          "held_out_rating")  # fmt: skip
_WHERE = {"report": ", on the prompts that report"}


def leaderboard(
    after: Annotated[
        str | None, typer.Option(help="the round; default: the last one rated")
    ] = None,
    format: FormatOption = Format.table,
) -> None:
    """Print the ratings after a round, best first, with their 95 % intervals.

    They are those on the prompts that report; by the others is promoted.
    """
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
    columns = (
        *("rank", "contestant", "rating", "lower", "upper", "points", "mean_score", "battles"),
        *("purpose", "held_out_rating"),
    )
    # a board of an earlier version may lack what boards have now
    board = [dict.fromkeys(columns) | row for row in rows.to_pylist()]
    comparison, note = _progress(arena, key, board), note_on_picks(arena.profile)
    if format is Format.json:
        print_json({"round": key, "leaderboard": board, "progress": comparison, "note": note})
        return
    shown = [row | {"interval": interval(row["lower"], row["upper"])} for row in board]
    where = _WHERE.get(str(board[0]["purpose"]), "") if board else ""
    print_table(f"leaderboard after {key}{where}", _BOARD, shown)
    if note:
        typer.echo(note)
    if comparison:
        typer.echo(_in_words(comparison))


def _progress(arena: Any, key: str, board: list[dict[str, Any]]) -> dict[str, Any] | None:
    """How the promoted model stands to the base model; None before the first promotion."""
    if not arena.lake.exists("promotions", key):
        return None
    (promoted,) = arena.lake.read("promotions", key).to_pylist()
    if "base" not in {row["contestant"] for row in board}:
        return None
    names = ("gain", "gain_lower", "gain_upper")
    return {
        "base": "base",
        "promoted": promoted["contestant"],
        "purpose": next((row["purpose"] for row in board), None),
        "waiting": promoted["waiting"],
        **{name: promoted[name] for name in names},
        **{f"held_out_{name}": promoted[f"held_out_{name}"] for name in names},
    }


def _in_words(progress: dict[str, Any]) -> str:
    """What the promoted model has gained over the base model, on which prompts."""
    from arena_assets.curation.split import REPORT
    from arena_assets.flywheel.promotion import gain_in_words

    where = " on prompts that did not select it" if progress["purpose"] == REPORT else ""
    said = f"promoted: {progress['promoted']}"
    if progress["waiting"]:
        said = f"waits for {progress['waiting']}: {progress['promoted']}"
    if progress["gain"] is not None:
        said += f", {gain_in_words(progress)} over the base model{where}"
    if progress["held_out_gain"] is not None:
        said += f"; on what is held out {gain_in_words(progress, 'held_out_')}"
    return said


def status(format: FormatOption = Format.table) -> None:
    """Print every round: its state, what it fights with, what it trains on, what it promoted."""
    from arena_assets.cli.wheel import round_states
    from arena_assets.flywheel.arena import open_arena

    states = round_states(open_arena())
    if format is Format.json:
        print_json(states)
        return
    columns = ("round", "state", "slice", "minimum_gap", "fights_with", "trains_from", "trains_on")
    gained = [
        state | {"gain": None if state["gain"] is None else f"{state['gain']:+.0f}"}
        for state in states
    ]
    print_table("rounds", (*columns, "promoted", "gain"), gained)
    for state in states:
        key, because = state["round"], f" ({state['because']})" if state["because"] else ""
        if state["out_of_date"]:
            typer.echo(f"{key}: first of all {state['out_of_date']}{because}")
        elif state["state"] == "waiting for approval":
            typer.echo(f"{key}: {state['promoted']} waits for `arena models approve {key}`")


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
