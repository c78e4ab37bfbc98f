"""`arena`: the wheel, the leaderboard and the state of things for those who live in a terminal."""

from __future__ import annotations

import atexit
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from dotenv import load_dotenv

from arena_assets.cli.ablate import ablate
from arena_assets.cli.gain import gain
from arena_assets.cli.migrate import migrate_command
from arena_assets.cli.models import app as models_app
from arena_assets.cli.rate import rate_command
from arena_assets.cli.results import judges, leaderboard, status
from arena_assets.cli.run import plan, rejudge, run
from arena_assets.cli.workspace import doctor, init, profile, verify
from arena_assets.config.places import profile_path
from arena_assets.hostile_text import visible_lines

app = typer.Typer(
    help="Arena Learning: battles, ratings, training, and the next round.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"arena-assets {metadata.version('arena-assets')}")
        raise typer.Exit


def _read_environment() -> None:
    """Take over ./.env as `dagster dev` does; what is set already stays."""
    set_before = "DAGSTER_HOME" in os.environ
    load_dotenv(Path(".env"))
    home = os.environ.get("DAGSTER_HOME")
    if home and not set_before and not Path(home).is_dir():
        del os.environ["DAGSTER_HOME"]
        typer.echo(
            f"{Path('.env').absolute()}: DAGSTER_HOME: {home} is not there, so .dagster of the "
            "workspace is used; change the line before you run `dagster dev`",
            err=True,
        )


@app.callback()
def choose_profile(
    profile: Annotated[
        str | None,
        typer.Option(
            help="the arena's YAML; default: $ARENA_PROFILE, else ./arena.yaml, else the pocket "
            "arena, which comes with the program"
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Settings that every command shares."""
    # no profile is read and nothing is made here: `rate` and `init` need neither
    _read_environment()
    if profile:
        os.environ["ARENA_PROFILE"] = profile
        os.environ["ARENA_PROFILE"] = str(profile_path())  # absolute, for processes elsewhere


for _command in (
    *(init, profile, doctor, verify),
    *(run, plan, rejudge, ablate),
    *(status, leaderboard, judges, gain),
):
    app.command()(_command)
app.add_typer(models_app, name="models")
app.command("rate")(rate_command)
app.command("migrate")(migrate_command)


def _explains_itself(error: Exception) -> bool:
    """Whether an error is a sentence for the person who runs the command."""
    from arena_assets.config.rounds import UnknownRound
    from arena_assets.config.settings_files import ProfileError
    from arena_assets.flywheel.decisions import BrokenDecisions
    from arena_assets.flywheel.registry import RegistryError
    from arena_assets.flywheel.seeds import BadSeed
    from arena_assets.flywheel.weights import BrokenChain
    from arena_assets.lake.lake import MissingPartition, NotWritable
    from arena_assets.models.weights import MissingWeights
    from arena_assets.training.checkpoints import CorruptCheckpoint

    kinds = (ProfileError, BrokenChain, CorruptCheckpoint, MissingPartition, MissingWeights)
    of_people = (BadSeed, BrokenDecisions, RegistryError, UnknownRound)
    return isinstance(error, (*kinds, *of_people, NotWritable))


def main() -> None:
    """Run a command, and leave without the interpreter's clean-up.

    Once vLLM was loaded, DuckDB's bindings fill the terminal with leak reports there.
    """
    code = 0
    try:
        app()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except Exception as error:
        if not _explains_itself(error):
            raise
        print(visible_lines(str(error)), file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
