"""`arena ablate`: one round under several recipes and seeds, rated together."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arena_assets.cli.printing import (
    ListFormat,
    fail,
    interval,
    print_csv,
    print_json,
    print_table,
)
from arena_assets.hostile_text import markdown_rows

if TYPE_CHECKING:
    from arena_assets.config.ablations import Ablation
    from arena_assets.flywheel.ablations import Trained
    from arena_assets.flywheel.arena import Arena
    from arena_assets.lake.lake import Lake


def ablate(
    file: Annotated[Path, typer.Argument(help="YAML: profile, round, seeds, variants")],
    format: Annotated[ListFormat, typer.Option("--format")] = ListFormat.table,
) -> None:
    """Train one round under several recipes and seeds, and rate all of them in one arena.

    What was answered, judged or trained before is found; one that was stopped goes on.
    """
    from arena_assets.cli.wheel import WheelStopped
    from arena_assets.config.ablations import load_ablation
    from arena_assets.flywheel.ablations import results, trainings
    from arena_assets.flywheel.arena import Arena
    from arena_assets.models.engine import BackendDown
    from arena_assets.ratings.battles import BadBattles
    from arena_assets.ratings.comparisons import UnratableBattles

    say = partial(typer.echo, err=True)
    ablation = load_ablation(file)
    own = Arena(ablation.profile_place)
    trained = trainings(ablation, own, file.stem)
    try:
        _prepare(own, ablation, say)
        for number, one in enumerate(trained, 1):
            _train(one, ablation, f"{number} of {len(trained)}", say)
        lake = _meet(trained, own, say)
        rows = results(trained, own, lake)
    except (WheelStopped, BackendDown, BadBattles, UnratableBattles) as stopped:
        fail(str(stopped))
    own.lake.write("ablations", rows, file.stem)
    _print(file.stem, own.lake.read("ablations", file.stem).to_pylist(), format)


def _prepare(own: Arena, ablation: Ablation, say: Any) -> None:
    """The arena's own prompts and weights; the rounds before have to be turned already."""
    from arena_assets.cli.wheel import prepare_outdated
    from arena_assets.flywheel.handover import target_of

    own.lake.refuse_unmigrated()
    prepare_outdated(own, say)
    target_of(own, ablation.round)  # BrokenChain says which round to turn first


def _train(one: Trained, ablation: Ablation, place: str, say: Any) -> None:
    """Its battles, its rows and its checkpoint, unless that is there and up to date."""
    import dagster as dg

    from arena_assets.cli.wheel import run_job
    from arena_assets.flywheel.made_from import OF_ROUND

    one.prepare(ablation)
    if one.is_done():
        say(f"{one.name}: done, nothing changed")
        return
    say(f"{one.name}: training ({place})")
    started = time.monotonic()
    tables = ["target_model", *takewhile(lambda table: table != "checkpoint", OF_ROUND)]
    # events of its own: in the arena's UI they would be those of the round itself
    home = one.arena.lake.root / ".dagster"
    home.mkdir(exist_ok=True)
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        run_job(one.arena, instance, "turn_round", one.key, only=[*tables, "checkpoint"])
    say(f"{one.name}: {time.monotonic() - started:.0f} s")


def _meet(trained: list[Trained], own: Arena, say: Any) -> Lake:
    """The arena of all, up to its battles."""
    from arena_assets.assets.console import noise_to
    from arena_assets.assets.dbt import round_variables
    from arena_assets.assets.dbt_project import run_dbt
    from arena_assets.cli.wheel import WheelStopped, noise_of
    from arena_assets.flywheel.ablations import meet
    from arena_assets.lake.durable import exclusive

    key = trained[0].key
    with exclusive(trained[0].area / ".lock", f"the arena of {trained[0].area.name}", say):
        with noise_to(noise_of(own)) as screen:
            lake = meet(trained, own, screen.line)
        (lake.root / "arena_battles").mkdir(exist_ok=True)
        with TemporaryDirectory() as scratch:
            told = round_variables(own, key) | {"lake": str(lake.root), "scratch": scratch}
            arguments = ["run", "--select", "arena_battles", "--vars", json.dumps(told)]
            made, said = run_dbt(["--quiet", *arguments], Path(scratch))
    if not made.success:
        errors = [m["info"]["msg"] for m in said if m["info"]["level"] == "error"]
        raise WheelStopped("\n".join(errors) or str(made.exception))
    return lake


_COLUMNS = (
    *("variant", "seed", "rows", "rating", "lower", "upper"),
    *("against", "difference", "difference_lower", "difference_upper", "p_value"),
    *("prompts", "families"),
)


_SHOWN = (
    *("variant", "seed", "rows", "rating", "interval"),
    *("against", "difference", "difference_interval", "p_value", "prompts", "families"),
)


def _print(name: str, rows: Sequence[Mapping[str, Any]], format: ListFormat) -> None:
    told = [{column: row[column] for column in _COLUMNS} for row in rows]
    if format is ListFormat.json:
        print_json(rows)
    elif format is ListFormat.csv:
        print_csv(told)
    elif format is ListFormat.markdown:
        typer.echo(markdown_rows(_COLUMNS, [_digits(row) for row in told]))
    else:
        shown = [
            _digits(row)
            | {
                "rating": row["rating"],
                "seed": "all" if row["seed"] is None else row["seed"],
                "interval": interval(row["lower"], row["upper"]),
                "difference_interval": interval(
                    row["difference_lower"], row["difference_upper"], "+.3f"
                ),
            }
            for row in rows
        ]
        print_table(name, _SHOWN, shown, "")
        typer.echo(
            "difference: of points (-1 to 1) on the same prompts, over seeds; 95 % interval over "
            "families of prompts"
        )


def _digits(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with three digits of whatever has any: p values are small."""
    return {n: f"{v:.3f}" if isinstance(v, float) else v for n, v in row.items()}
