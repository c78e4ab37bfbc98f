"""`arena init`, `profile`, `verify` and `doctor`: what a workspace has, before and beside a run."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from arena_assets.cli.printing import Format, FormatOption, fail, print_json, print_table


def init(
    folder: Annotated[Path, typer.Argument(help="a new folder, or one without an arena")],
) -> None:
    """Write a workspace to start from: a profile with comments, and what `dagster dev` needs."""
    from arena_assets.starter import FolderInUse, write_workspace

    try:
        written = write_workspace(folder)
    except FolderInUse as error:
        fail(str(error))
    typer.echo("\n".join(f"wrote {path}" for path in written))
    into = f"cd {shlex.quote(str(folder))}"
    typer.echo(f"\nNow, to turn the wheel once:\n\n    {into} && arena run\n")
    typer.echo(f"and to see it in the UI:\n\n    {into} && dagster dev")


def profile(format: FormatOption = Format.table) -> None:
    """Check the profile and print it as it is understood, defaults included."""
    import yaml

    from arena_assets.flywheel.arena import open_arena

    settings = open_arena().profile.model_dump(mode="json")
    if format is Format.json:
        print_json(settings)
    else:
        typer.echo(yaml.safe_dump(settings, sort_keys=False, width=100))


def verify(format: FormatOption = Format.table) -> None:
    """Read the files of all models and checkpoints and compare them with what was recorded."""
    from arena_assets.flywheel.arena import open_arena
    from arena_assets.flywheel.weights import verify_weights
    from arena_assets.lake.lake import MissingPartition

    try:
        found = verify_weights(open_arena())
    except MissingPartition as error:
        fail(str(error))
    if format is Format.json:
        print_json(found)
    else:
        print_table("weights", ("weights", "state"), found)
    if any(row["state"] != "ok" for row in found):
        raise typer.Exit(1)


def doctor(format: FormatOption = Format.table) -> None:
    """Print what this machine has beside what the profile needs; exit 1 where it will not work."""
    from arena_assets.cli.doctor import examine
    from arena_assets.flywheel.arena import open_arena

    arena = open_arena()
    findings = examine(arena.profile, arena.lake.root, arena.models_cache)
    if format is Format.json:
        print_json([asdict(finding) for finding in findings])
    else:
        rows = [asdict(finding) for finding in findings]
        print_table("this machine and the profile", tuple(rows[0]), rows)
    if any(finding.state == "fails" for finding in findings):
        raise typer.Exit(1)
