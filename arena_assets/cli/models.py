"""`arena models ...`: checkpoints and the base model, what people decide about them, export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
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
from arena_assets.hostile_text import in_markdown, markdown_rows, visible_lines

if TYPE_CHECKING:
    from arena_assets.flywheel.arena import Arena
    from arena_assets.flywheel.decisions import Decision
    from arena_assets.flywheel.registry import Entry

app = typer.Typer(
    help="Checkpoints and the base model: what they are, who fights on, export.",
    no_args_is_help=True,
)


class PageFormat(StrEnum):
    """How several tables are printed."""

    table = "table"
    json = "json"
    markdown = "markdown"


NAME = "base, a round (i01.2-dpo), promoted, or the first digits of a digest"
Name = Annotated[str, typer.Argument(help=NAME)]
Page = Annotated[PageFormat, typer.Option("--format", help="table for people, json for scripts")]
After = Annotated[
    str | None, typer.Option(help="the round whose promotion is meant; default: the last promoted")
]
Reason = Annotated[str, typer.Option(help="why, kept with the decision")]
By = Annotated[str | None, typer.Option("--by", help="who decides; default: this user")]
_LISTED = ("name", "digest", "parent", "promoted", "fought_in", "rating", "interval",
           "rated_after", "state", "size", "age")  # fmt: skip
Section = tuple[str, Sequence[str], Sequence[Mapping[str, Any]]]


@app.command("list")
def list_models(
    format: Annotated[ListFormat, typer.Option(help="table for people, the others for scripts")] = (
        ListFormat.table
    ),
) -> None:
    """List the base model and every checkpoint: parent, who fought, rating, state, size, age."""
    from arena_assets.flywheel.arena import open_arena
    from arena_assets.flywheel.registry import entries

    found = entries(open_arena())
    if format is ListFormat.json:
        print_json([_row(entry) for entry in found])
    elif format is ListFormat.csv:
        print_csv([_row(entry) for entry in found])
    else:
        shown = [_shown(entry) for entry in found]
        if format is ListFormat.markdown:
            _print_section(("models", tuple(shown[0]), shown), as_markdown=True)
        else:  # the name says the stage, and who was promoted when is in `show`
            rows = [row | {"interval": interval(row["lower"], row["upper"])} for row in shown]
            print_table("models", _LISTED, rows)
    for entry in found:
        if entry.problem:
            typer.echo(visible_lines(entry.problem), err=True)


@app.command()
def show(name: Name, format: Page = PageFormat.table) -> None:
    """Show one model: parents, data with digests, judges, settings, metrics, ratings, cost."""
    from arena_assets.flywheel.arena import open_arena
    from arena_assets.flywheel.details import details
    from arena_assets.flywheel.registry import resolve

    arena = open_arena()
    known = details(arena, resolve(arena, name))
    lists = ("parents", "data", "judges", "ratings")
    maps = ("config", "versions", "metrics", "cost")
    facts = {key: value for key, value in known.items() if key not in (*lists, *maps)}
    sections: list[Section] = [(known["name"], ("what", "value"), _facts(facts))]
    sections += [(part, tuple(known[part][0]), known[part]) for part in lists if known[part]]
    sections += [(part, ("what", "value"), _facts(known[part])) for part in maps if known[part]]
    _print_page(known, sections, format)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help=NAME)],
    b: Annotated[str, typer.Argument(help=NAME)],
    format: Page = PageFormat.table,
) -> None:
    """Compare two models: settings, rows, versions, metrics; who is better on the same prompts."""
    from arena_assets.flywheel.arena import open_arena
    from arena_assets.flywheel.comparison import compare as compare_models
    from arena_assets.flywheel.registry import resolve

    arena = open_arena()
    found = compare_models(arena, resolve(arena, a), resolve(arena, b))
    both = ("what", "a", "b")
    title = f"a is {found['a']['name']}, b is {found['b']['name']}"
    sections: list[Section] = [(title, both, _sides(found["a"], found["b"]))]
    for part in ("settings", "versions", "metrics"):
        rows = [{name: _said(value) for name, value in row.items()} for row in found[part]]
        sections.append((part, both, rows))
    learned = found["rows"] or {"rows": "unknown: a training set is not there as it was learned"}
    sections.append(("rows learned", ("what", "value"), _facts(learned)))
    sections.append(("ratings", both, _sides(found["ratings"]["a"], found["ratings"]["b"])))
    paired = found["paired"] or {"difference": "unknown: there is no arena with both as they are"}
    title = "points of a over b on the same prompts, from -1 to 1"
    sections.append((title, ("what", "value"), _facts(paired)))
    _print_page(found, sections, format)


@app.command()
def rollback(name: Name, after: After = None, reason: Reason = "", by: By = None) -> None:
    """Let an older model fight on after a round; what followed is out of date until it is run."""
    from arena_assets.flywheel.people import roll_back

    _decide(lambda arena: roll_back(arena, name, after, reason, by))


@app.command()
def pin(name: Name, after: After = None, reason: Reason = "", by: By = None) -> None:
    """Let a model fight on after a round and all that follow it, whatever they come to."""
    from arena_assets.flywheel.people import pin as pin_model

    _decide(lambda arena: pin_model(arena, name, after, reason, by))


@app.command()
def unpin(after: After = None, reason: Reason = "", by: By = None) -> None:
    """Take back what was pinned or rolled back after a round and later ones."""
    from arena_assets.flywheel.people import unpin as unpin_model

    _decide(lambda arena: unpin_model(arena, after, reason, by))


@app.command()
def approve(
    after: Annotated[
        str | None,
        typer.Argument(metavar="[ROUND]", help="whose promotion waits; default: the last"),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="whom you mean; refused where another one waits")
    ] = None,
    reason: Reason = "",
    by: By = None,
) -> None:
    """Let the model fight on that a round chose and that waits for approval."""
    from arena_assets.flywheel.people import approve as approve_model

    _decide(lambda arena: approve_model(arena, after, model, reason, by))


Masters = Annotated[
    bool, typer.Option("--masters", help="the weights that training goes on from, not the copy")
]


@app.command()
def export(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="one that is not there yet, or is empty")],
    masters: Masters = False,
) -> None:
    """Write a model as a Hugging Face folder with a model card."""
    from arena_assets.flywheel.arena import open_arena
    from arena_assets.flywheel.exporting import export as export_model
    from arena_assets.flywheel.registry import resolve

    arena = open_arena()
    entry = resolve(arena, name)
    typer.echo(f"wrote {entry.name} to {export_model(arena, entry, folder, masters)}")


@app.command()
def push(
    name: Name,
    repository: Annotated[str, typer.Argument(help="USER/NAME on the hub")],
    private: Annotated[bool, typer.Option("--private", help="where it has to be made")] = False,
    masters: Masters = False,
) -> None:
    """Put a model on the Hugging Face hub, with the token in HF_TOKEN."""
    from arena_assets.flywheel.arena import open_arena
    from arena_assets.flywheel.exporting import push as push_model
    from arena_assets.flywheel.registry import resolve

    arena = open_arena()
    entry = resolve(arena, name)
    typer.echo(f"pushed {entry.name}: {push_model(arena, entry, repository, private, masters)}")


def _decide(decide: Callable[[Arena], list[Decision]]) -> None:
    """Write a decision down, make the promotions anew that it is about, and say what follows."""
    from arena_assets.cli.wheel import WheelStopped, promote_again, rounds_to_turn
    from arena_assets.flywheel.arena import open_arena

    arena = open_arena()
    taken = decide(arena)
    for decision in taken:
        what = f" {decision.contestant}" if decision.contestant else ""
        said = f"after {decision.round}: {decision.kind}{what} {decision.in_words}"
        typer.echo(visible_lines(said))
    try:
        promote_again(decision.round for decision in taken)
    except WheelStopped as stopped:
        fail(f"{stopped}\nthe decision is written down; `arena run` goes on with it")
    for line in rounds_to_turn(arena):
        typer.echo(line)


def _row(entry: Entry) -> dict[str, Any]:
    manifest, rating = entry.manifest, entry.rating
    return {
        "name": entry.name,
        "stage": entry.stage,
        "digest": entry.digest,
        "parent": manifest and manifest.parent,
        "promoted": entry.promoted,
        "promoted_after": list(entry.promoted_after),
        "fought_in": list(entry.fought_in),
        "rating": rating and rating.rating,
        "lower": rating and rating.lower,
        "upper": rating and rating.upper,
        "rated_after": rating and rating.after,
        "state": entry.state,
        "bytes": entry.size,
        "created_at": entry.created_at,
    }


def _shown(entry: Entry) -> dict[str, Any]:
    """A row for people: digests cut, sizes and times as they are said."""
    from arena_assets.flywheel.registry import SHORT

    row = _row(entry)
    size, made = row.pop("bytes"), row.pop("created_at")
    row |= {name: ", ".join(row[name]) for name in ("promoted_after", "fought_in")}
    return row | {
        "digest": entry.digest and entry.digest[:SHORT],
        "promoted": "yes" if entry.promoted else "-",
        "size": None if size is None else f"{size / 2**20:.0f} MiB",
        "age": made and _age(datetime.now(UTC) - made),
    }


def _age(past: timedelta) -> str:
    minutes = past.total_seconds() / 60
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.0f} h" if minutes < 60 * 48 else f"{past.days} days"


def _facts(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    from arena_assets.flywheel.comparison import flat

    return [{"what": name, "value": _said(value)} for name, value in flat(values)]


def _said(value: Any) -> Any:
    """A value of any kind as a cell: small numbers keep their digits."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _sides(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    names = dict.fromkeys([*(a or {}), *(b or {})])
    return [
        {"what": n, **{side: _said((of or {}).get(n)) for side, of in (("a", a), ("b", b))}}
        for n in names
    ]


def _print_page(known: Mapping[str, Any], sections: Sequence[Section], format: PageFormat) -> None:
    if format is PageFormat.json:
        print_json(known)
        return
    for section in sections:
        if section[2]:
            _print_section(section, format is PageFormat.markdown)


def _print_section(section: Section, as_markdown: bool) -> None:
    title, columns, rows = section
    if as_markdown:
        typer.echo(f"### {in_markdown(title)}\n\n{markdown_rows(columns, rows)}\n")
    else:
        print_table(title, columns, rows)
