"""`arena migrate`: what an older version paid for, under the keys of now."""

from __future__ import annotations

from dataclasses import asdict

import typer

from arena_assets.cli.printing import print_table


def migrate_command() -> None:
    """Give stored answers and verdicts of version 0.3.0 their new keys; pays nothing.

    It may be run again: after a kill, or when the profile has somebody again who was left out. Its
    checkpoints are trained again by the next run.
    """
    from arena_assets.flywheel.arena import open_arena
    from arena_assets.flywheel.migration import migrate

    moved = migrate(open_arena(), lambda line: typer.echo(line, err=True))
    if not moved:
        typer.echo("nothing to do: the lake has no keys of an earlier version")
        return
    print_table("stored rows", ("what", "moved", "left", "why"), [asdict(row) for row in moved])
