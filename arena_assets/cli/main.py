"""`arena`: the wheel, the leaderboard and the state of things for those who live in a terminal."""

from __future__ import annotations

import atexit
import json
import os
import shlex
import sys
from dataclasses import asdict
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from dotenv import load_dotenv

from arena_assets.cli.migrate import migrate_command
from arena_assets.cli.printing import print_table
from arena_assets.cli.rate import rate_command
from arena_assets.config.places import profile_path
from arena_assets.hostile_text import visible_lines

app = typer.Typer(
    help="Arena Learning: battles, ratings, training, and the next round.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class Format(StrEnum):
    """How a result is printed."""

    table = "table"
    json = "json"


FormatOption = Annotated[
    Format, typer.Option("--format", help="table for people, json for scripts")
]


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


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="a new folder, or one without an arena")],
) -> None:
    """Write a workspace to start from: a profile with comments, and what `dagster dev` needs."""
    from arena_assets.starter import FolderInUse, write_workspace

    try:
        written = write_workspace(folder)
    except FolderInUse as error:
        _fail(str(error))
    typer.echo("\n".join(f"wrote {path}" for path in written))
    into = f"cd {shlex.quote(str(folder))}"
    typer.echo(f"\nNow, to turn the wheel once:\n\n    {into} && arena run\n")
    typer.echo(f"and to see it in the UI:\n\n    {into} && dagster dev")


@app.command()
def run(
    until: Annotated[str | None, typer.Option(help="the last round to turn; default: all")] = None,
    again: Annotated[
        list[str] | None, typer.Option(help="a round to turn again although nothing changed")
    ] = None,
) -> None:
    """Turn the wheel: every round that is not done, in order; then print the leaderboard."""
    from arena_assets.cli.wheel import WheelStopped, noise_of, turn
    from arena_assets.config.rounds import UnknownRound

    arena = _arena()
    arena.lake.refuse_unmigrated()
    for finding in _examined(arena):
        if finding.state != "ok":
            typer.echo(f"{finding.what}: {finding.found}; {finding.advice}", err=True)
    typer.echo(f"what libraries print goes to {noise_of(arena)}", err=True)
    try:
        turned = turn(until, typer.echo, again or (), lambda key: leaderboard(after=key))
    except (WheelStopped, UnknownRound) as error:
        _fail(str(error))
    if turned:
        typer.echo(f"turned {', '.join(turned)}")
    else:
        typer.echo("nothing to do: every round is done")
        leaderboard()


@app.command()
def doctor(format: FormatOption = Format.table) -> None:
    """Print what this machine has beside what the profile needs; exit 1 where it will not work."""
    findings = _examined(_arena())
    if format is Format.json:
        _print_json([asdict(finding) for finding in findings])
    else:
        rows = [asdict(finding) for finding in findings]
        print_table("this machine and the profile", tuple(rows[0]), rows)
    if any(finding.state == "fails" for finding in findings):
        raise typer.Exit(1)


@app.command()
def leaderboard(
    after: Annotated[
        str | None, typer.Option(help="the round; default: the last one rated")
    ] = None,
    format: FormatOption = Format.table,
) -> None:
    """Print the ratings after a round, best first, with their 95 % intervals."""
    from arena_assets.generation.best_of import note_on_picks

    arena = _arena()
    rated = arena.lake.partitions("leaderboard")
    key = after or (rated[-1] if rated else None)
    if key is None or key not in rated:
        _fail(
            f"no leaderboard for {key or 'any round'} (there: {', '.join(rated) or 'none'}); "
            "run `arena run`"
        )
    rows = arena.lake.query("select * from board order by rating desc", board=("leaderboard", key))
    columns = ("rank", "contestant", "rating", "lower", "upper", "points", "mean_score", "battles")
    # a board of an earlier version may lack what boards have now
    board = [dict.fromkeys(columns) | row for row in rows.to_pylist()]
    comparison, note = _progress(arena, key, board), note_on_picks(arena.profile)
    if format is Format.json:
        _print_json({"round": key, "leaderboard": board, "progress": comparison, "note": note})
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


@app.command()
def status(format: FormatOption = Format.table) -> None:
    """Print every round: its state, what it fights with, what it trains on, what it promoted."""
    from arena_assets.cli.wheel import round_states

    states = round_states(_arena())
    if format is Format.json:
        _print_json(states)
        return
    columns = ("round", "state", "slice", "minimum_gap", "fights_with", "trains_from", "trains_on")
    print_table("rounds", (*columns, "promoted", "rating", "out_of_date"), states)


@app.command()
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
    from arena_assets.judging.audit import audit_judges, judge_prices

    arena = _arena()
    judged = arena.lake.partitions("arena_battles" if testset else "battles")
    key = round or (judged[-1] if judged else None)
    if key is None or key not in judged:
        _fail(f"no battles of {key or 'any round'} (there: {', '.join(judged) or 'none'})")
    try:
        audit = audit_judges(arena.lake, key, judge_prices(arena.profile), labels, testset)
    except ValueError as error:
        _fail(str(error))
    rows = audit.to_pylist()
    if format is Format.json:
        _print_json(rows)
        return
    names = audit.column_names
    behaviour, cut = names[1:11], names.index("reference")
    print_table(f"judges of {key}", behaviour, rows)
    against = "labels" if labels else "the judge that decides"
    print_table(f"agreement with {against}, and cost", ("judge", *names[cut:]), rows, "unknown")


@app.command()
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
        _fail(str(error))
    for key in rounds:
        judges(round=key)


@app.command()
def plan(
    until: Annotated[str | None, typer.Option(help="the last round to plan; default: all")] = None,
    format: FormatOption = Format.table,
) -> None:
    """Print what a run will take: responses, games, tokens, time and cost, before it starts."""
    from arena_assets.cli.wheel import rounds_to_turn
    from arena_assets.config.rounds import UnknownRound
    from arena_assets.flywheel.planning import plan as plan_work
    from arena_assets.flywheel.planning import total_of
    from arena_assets.training.checkpoints import CorruptCheckpoint

    arena = _arena()
    try:
        works = plan_work(arena, until)
    except (UnknownRound, CorruptCheckpoint) as error:
        _fail(str(error))
    rows = [asdict(work) for work in works]
    if format is Format.json:
        _print_json({"work": rows, "total": total_of(works)})
        return
    total = total_of(works)
    sums = {name: f"{total['known'][name]:.0f} + unknown" for name in total["unknown"]}
    if "cost" in sums:
        sums["cost"] = f"{total['known']['cost']:.2f} + unknown"
    print_table("plan", tuple(rows[0]), [*rows, total | sums], "unknown")
    for name, who in total["unknown"].items():
        typer.echo(f"{name.replace('_', ' ')}: {sums[name]} ({', '.join(who)})")
    for line in rounds_to_turn(arena, until):
        typer.echo(line)


@app.command()
def verify(format: FormatOption = Format.table) -> None:
    """Read the files of all models and checkpoints and compare them with what was recorded."""
    from arena_assets.flywheel.weights import verify_weights
    from arena_assets.lake.lake import MissingPartition

    try:
        found = verify_weights(_arena())
    except MissingPartition as error:
        _fail(str(error))
    if format is Format.json:
        _print_json(found)
    else:
        print_table("weights", ("weights", "state"), found)
    if any(row["state"] != "ok" for row in found):
        raise typer.Exit(1)


@app.command()
def profile(format: FormatOption = Format.table) -> None:
    """Check the profile and print it as it is understood, defaults included."""
    settings = _arena().profile.model_dump(mode="json")
    if format is Format.json:
        _print_json(settings)
        return
    import yaml

    typer.echo(yaml.safe_dump(settings, sort_keys=False, width=100))


app.command("rate")(rate_command)
app.command("migrate")(migrate_command)


def _examined(arena):
    from arena_assets.cli.doctor import examine

    return examine(arena.profile, arena.lake.root, arena.models_cache)


def _arena():
    from arena_assets.flywheel.arena import open_arena

    return open_arena()


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


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, default=str))


def _fail(message: str) -> None:
    typer.echo(visible_lines(message), err=True)
    raise typer.Exit(1)


def _explains_itself(error: Exception) -> bool:
    """Whether an error is a sentence for the person who runs the command."""
    from arena_assets.config.settings_files import ProfileError
    from arena_assets.flywheel.weights import BrokenChain
    from arena_assets.lake.lake import MissingPartition, UnmigratedStore
    from arena_assets.models.weights import MissingWeights
    from arena_assets.training.checkpoints import CorruptCheckpoint

    kinds = (ProfileError, BrokenChain, CorruptCheckpoint, MissingPartition, MissingWeights)
    return isinstance(error, (*kinds, UnmigratedStore))


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
