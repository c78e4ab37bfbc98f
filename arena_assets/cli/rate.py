"""`arena rate`: ratings of any table of battles, without an arena of one's own."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arena_assets.hostile_text import visible_lines

if TYPE_CHECKING:
    from arena_assets.ratings.battles import Battles
    from arena_assets.ratings.bradley_terry import Intervals


class Loader(StrEnum):
    battles = "battles"
    lmarena = "lmarena"
    alpaca_eval = "alpaca_eval"
    arena_hard = "arena_hard"
    llmfao = "llmfao"
    lake = "lake"


class Control(StrEnum):
    length = "length"
    style = "style"


class Method(StrEnum):
    bradley_terry = "bradley-terry"
    elo = "elo"


class Interval(StrEnum):
    sandwich = "sandwich"
    bootstrap = "bootstrap"


class RatingFormat(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"


def rate_command(
    battles: Annotated[Path, typer.Argument(help="battles as Parquet, CSV, TSV, JSON or JSONL")],
    loader: Annotated[Loader, typer.Option(help="whose table it is")] = Loader.battles,
    responses: Annotated[
        Path | None, typer.Option(help="prompt_id, contestant, text; what --control looks at")
    ] = None,
    control: Annotated[
        Control | None, typer.Option(help="take the effect of length, or length and markdown, out")
    ] = None,
    method: Annotated[Method, typer.Option(help="elo: online, in the order of the rows")] = (
        Method.bradley_terry
    ),
    interval: Annotated[
        Interval, typer.Option(help="how 95 % intervals are made; bootstrap: as in the paper")
    ] = Interval.sandwich,
    simultaneous: Annotated[
        bool, typer.Option("--simultaneous", help="intervals that hold all at once, so wider ones")
    ] = False,
    bootstrap: Annotated[int, typer.Option(min=20, help="the bootstrap's resamples")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="the bootstrap's")] = 0,
    anchor: Annotated[
        str | None, typer.Option(help="NAME=RATING; default: the first contestant at 1000")
    ] = None,
    category: Annotated[str | None, typer.Option(help="only the battles of this category")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="a leaderboard to compare with: model, rating, lower, upper")
    ] = None,
    reference_where: Annotated[
        list[str] | None, typer.Option(help="COLUMN=VALUE: which rows of the reference count")
    ] = None,
    names: Annotated[
        Path | None, typer.Option(help="CSV with a header: our name, the reference's name")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(help="a folder for PNGs: ratings and win rates")
    ] = None,
    format: Annotated[
        RatingFormat, typer.Option(help="table for people; json with everything; csv")
    ] = RatingFormat.table,
) -> None:
    """Rate contestants from a table of battles, with 95 % intervals."""
    from arena_assets.ratings.battles import BadBattles
    from arena_assets.ratings.bradley_terry import Intervals
    from arena_assets.ratings.comparisons import UnratableBattles
    from arena_assets.ratings.consistency import BadReference
    from arena_assets.ratings.control import MissingResponses

    try:
        if simultaneous and (interval is Interval.bootstrap or method is Method.elo):
            raise _BadOption("--simultaneous goes with --interval sandwich")
        intervals = Intervals(interval.value, simultaneous, bootstrap, seed)
        result = _rate(battles, loader, responses, control, method, intervals, anchor, category)
        if reference:
            result["consistency"] = _compare(
                result["ratings"], reference, reference_where or [], names
            )
    except (BadBattles, UnratableBattles, MissingResponses, BadReference, _BadOption) as error:
        typer.echo(visible_lines(str(error)), err=True)
        raise typer.Exit(1) from None
    if plots:
        _save_plots(plots, battles.stem, result)
    _print(result, format)


class _BadOption(ValueError):
    """Options that do not go together; the message says what would be right."""


def _rate(
    path: Path,
    loader: Loader,
    responses: Path | None,
    control: Control | None,
    method: Method,
    intervals: Intervals,
    anchor_option: str | None,
    category: str | None,
) -> dict[str, Any]:
    """Everything that is printed or saved, as the JSON holds it."""
    import pyarrow.compute as pc

    from arena_assets.ratings.battles import read_battles
    from arena_assets.ratings.bradley_terry import pair_table, rate
    from arena_assets.ratings.control import rate_controlled, style_features
    from arena_assets.ratings.elo import rate_online

    if control and not responses:
        raise _BadOption("--control needs --responses: a file with prompt_id, contestant and text")
    if control and method is Method.elo:
        raise _BadOption("--control goes with --method bradley-terry")
    battles = read_battles(path, loader.value)
    if category:
        battles = battles.of_category(category)
    anchor = _anchor(anchor_option, battles.table)
    prompts = pc.count_distinct(battles.table["prompt_id"]).as_py()
    _warn(battles, prompts)
    effects: list[dict[str, Any]] = []
    if control and responses:
        features = style_features(battles.table, responses, control.value)
        table, found = rate_controlled(battles.table, features, control.value, anchor, intervals)
        effects = [asdict(effect) for effect in found]
    elif method is Method.elo:
        table = rate_online(battles.table, anchor)
    else:
        table = rate(battles.table, anchor, intervals)
    return {
        "battles": battles.table.num_rows,
        "undecided": battles.undecided,
        "prompts": prompts,
        "method": method.value,
        "interval": "none" if method is Method.elo else intervals.kind,
        "simultaneous": intervals.simultaneous,
        "control": control.value if control else None,
        "anchor": asdict(anchor),
        "ratings": table.to_pylist(),
        "effects": effects,
        "pairs": pair_table(battles.table).to_pylist(),
    }


def _warn(battles: Battles, prompts: int) -> None:
    """Say on stderr what the intervals cannot know."""
    from arena_assets.curation.plain import plain
    from arena_assets.ratings.battles import PROMPT_COLUMNS

    if battles.alone:
        typer.echo(
            f"{battles.alone} of {battles.table.num_rows} battles name no prompt (columns looked "
            f"for: {', '.join(PROMPT_COLUMNS)}) and count as independent: if they share prompts, "
            "the intervals are too narrow",
            err=True,
        )
    elif prompts == 1:
        typer.echo(
            "all battles are on one prompt: the intervals say nothing about other prompts", err=True
        )
    contestants: dict[str, set[str]] = {}
    for column in ("contestant_1", "contestant_2"):
        for name in battles.table[column].unique().to_pylist():
            contestants.setdefault(plain(name), set()).add(name)
    for alike in contestants.values():
        if len(alike) > 1:
            typer.echo(
                f"{' and '.join(map(repr, sorted(alike)))} look alike and are rated as "
                f"{len(alike)} contestants: if they are one, give them one name",
                err=True,
            )


def _anchor(option: str | None, battles: Any) -> Any:
    """NAME=RATING; without one the first contestant of the alphabet holds 1000."""
    from arena_assets.ratings.bradley_terry import Anchor

    if option is None:
        if not battles.num_rows:
            return Anchor("", 1000)
        import pyarrow.compute as pc

        names = [pc.min(battles[column]).as_py() for column in ("contestant_1", "contestant_2")]
        return Anchor(min(names), 1000)
    name, _, text = option.rpartition("=")
    try:
        rating = float(text)
    except ValueError:
        rating = math.nan
    if not name or not math.isfinite(rating):
        raise _BadOption(f"--anchor {option}: write NAME=RATING, for example gpt-4=1100")
    return Anchor(name, rating)


def _compare(
    rows: Sequence[Mapping[str, Any]], path: Path, where: Sequence[str], names: Path | None
) -> dict[str, Any]:
    from arena_assets.ratings.consistency import consistency, read_names, read_reference

    for condition in where:
        if "=" not in condition:
            raise _BadOption(f"--reference-where {condition}: write COLUMN=VALUE")
    conditions = dict(condition.partition("=")[::2] for condition in where)
    board = read_reference(path, conditions or None)
    found = consistency(rows, board, read_names(names) if names else None)
    return asdict(found) | {"mean": found.mean}


def _save_plots(folder: Path, name: str, result: Mapping[str, Any]) -> None:
    from arena_assets.plots import ratings_plot, win_rate_plot

    folder.mkdir(parents=True, exist_ok=True)
    order = [row["contestant"] for row in result["ratings"]]
    (folder / f"{name}-ratings.png").write_bytes(ratings_plot(result["ratings"], name))
    (folder / f"{name}-win-rates.png").write_bytes(win_rate_plot(result["pairs"], order, name))


def _print(result: Mapping[str, Any], format: RatingFormat) -> None:
    if format is RatingFormat.json:
        typer.echo(json.dumps(result, indent=2))
        return
    rows = result["ratings"]
    if format is RatingFormat.csv:
        writer = csv.DictWriter(sys.stdout, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
        return
    from arena_assets.cli.printing import print_table

    columns = ("rank", "contestant", "rating", "lower", "upper", "battles", "wins", "losses")
    title = f"{result['battles']} battles on {result['prompts']} prompts"
    if result["undecided"]:
        title += f", {result['undecided']} undecided left out"
    print_table(title, (*columns, "ties"), rows)
    if len(rows) > 2 and result["interval"] != "none" and not result["simultaneous"]:
        typer.echo(
            "each interval holds by itself; of many pairs some may lie apart by chance "
            "(--simultaneous holds for all at once)"
        )
    for effect in result["effects"]:
        typer.echo(
            f"{effect['feature']}: {effect['points']:+.0f} rating points a standard deviation "
            f"({effect['lower']:+.0f} to {effect['upper']:+.0f})"
        )
    if compared := result.get("consistency"):
        shown = {
            name: "-" if compared[name] is None else f"{compared[name]:.3f}"
            for name in ("spearman", "agreement", "differentiation", "mean")
        }
        figures = ", ".join(f"{name} {value}" for name, value in shown.items())
        typer.echo(f"{len(compared['models'])} models of the reference: {figures}")
