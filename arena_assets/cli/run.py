"""`arena run`, `plan` and `rejudge`: the wheel, what it will take, and another judge."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from arena_assets.cli.printing import Format, FormatOption, fail, print_json, print_table
from arena_assets.cli.results import judges, leaderboard


def run(
    until: Annotated[str | None, typer.Option(help="the last round to turn; default: all")] = None,
    again: Annotated[
        list[str] | None, typer.Option(help="a round to turn again although nothing changed")
    ] = None,
    training_seed: Annotated[
        int | None,
        typer.Option(min=0, help="train by another seed, in a lake beside the arena's own"),
    ] = None,
) -> None:
    """Turn the wheel: every round that is not done, in order; then print the leaderboard."""
    from arena_assets.cli.doctor import examine
    from arena_assets.cli.wheel import WheelStopped, noise_of, turn
    from arena_assets.config.rounds import UnknownRound
    from arena_assets.flywheel.arena import open_arena
    from arena_assets.flywheel.seeds import VARIABLE
    from arena_assets.flywheel.state import states

    if training_seed is not None:
        os.environ[VARIABLE] = str(training_seed)  # also of processes that run a step
    arena = open_arena()
    if arena.shares_with:
        typer.echo(f"training seed {arena.profile.training_seed}: {arena.lake.root}", err=True)
    arena.lake.refuse_unmigrated()
    for finding in examine(arena.profile, arena.lake.root, arena.models_cache):
        if finding.state != "ok":
            typer.echo(f"{finding.what}: {finding.found}; {finding.advice}", err=True)
    typer.echo(f"what libraries print goes to {noise_of(arena)}", err=True)
    try:
        turned = turn(until, typer.echo, again or (), lambda key: leaderboard(after=key))
    except (WheelStopped, UnknownRound) as error:
        fail(str(error))
    if turned:
        typer.echo(f"turned {', '.join(turned)}")
    elif all(state.name == "done" for state in states(arena, until).values()):
        typer.echo("every round is done")
        leaderboard()


def plan(
    until: Annotated[str | None, typer.Option(help="the last round to plan; default: all")] = None,
    format: FormatOption = Format.table,
) -> None:
    """Print what a run will take: responses, games, tokens, time and cost, before it starts."""
    from arena_assets.cli.wheel import rounds_to_turn
    from arena_assets.config.rounds import UnknownRound
    from arena_assets.flywheel.arena import open_arena
    from arena_assets.flywheel.planning import plan as plan_work
    from arena_assets.flywheel.planning import total_of
    from arena_assets.flywheel.state import changes
    from arena_assets.training.checkpoints import CorruptCheckpoint

    arena = open_arena()
    try:
        works = plan_work(arena, until)
    except (UnknownRound, CorruptCheckpoint) as error:
        fail(str(error))
    rows = [asdict(work) for work in works]
    if format is Format.json:
        changed = [change._asdict() for change in changes(arena, until)]
        print_json({"work": rows, "total": total_of(works), "changes": changed})
        return
    total = total_of(works)
    sums = {name: f"{total['known'][name]:.0f} + unknown" for name in total["unknown"]}
    if "cost" in sums:
        sums["cost"] = f"{total['known']['cost']:.2f} + unknown"
    waiting = [row for row in rows if row["to_do"] != 0]
    print_table("plan", tuple(rows[0]), [*waiting, total | sums], "unknown")
    if found := len(rows) - len(waiting):
        typer.echo(
            f"nothing is to do for {found} of {len(rows)} works: their answers and games "
            "are there or come with others of the plan"
        )
    for name, who in total["unknown"].items():
        typer.echo(f"{name.replace('_', ' ')}: {sums[name]} ({', '.join(who)})")
    for line in rounds_to_turn(arena, until):
        typer.echo(line)
    for change in changes(arena, until):
        typer.echo(f"{change.table} of {change.partition} is made again: {change.because}")


def rejudge(
    rounds: Annotated[list[str], typer.Argument(help="rounds whose responses are judged again")],
    judge: Annotated[
        Path | None,
        typer.Option(help="YAML of one more judge that decides nothing: judge, battles"),
    ] = None,
) -> None:
    """Judge stored responses again, after the profile's judge changed or with one more judge."""
    from arena_assets.cli.wheel import WheelStopped
    from arena_assets.cli.wheel import rejudge as judge_again
    from arena_assets.config.rounds import UnknownRound

    try:
        judge_again(rounds, str(judge.resolve()) if judge else None)
    except (WheelStopped, UnknownRound) as error:
        fail(str(error))
    for key in rounds:
        judges(round=key)
