"""Plots as PNG for the metadata of assets: ratings, progress, loss curves."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from arena_assets.hostile_text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def ratings_plot(rows: Sequence[dict[str, Any]], title: str) -> bytes:
    """Ratings with their intervals, best on top; rows have contestant, rating, lower and upper."""

    def draw(axes: Axes) -> None:
        ordered = sorted(rows, key=lambda row: row["rating"])
        _intervals(axes, ordered, range(len(ordered)), horizontal=True)
        axes.set_yticks(range(len(ordered)), _names(ordered), parse_math=False)
        axes.set_xlabel("rating (Elo scale, 95 % interval)")

    return _png(draw, title, height=1.2 + 0.4 * len(rows))


def progress_plot(rows: Sequence[dict[str, Any]], title: str) -> bytes:
    """The target's rating over its checkpoints in time order; rows as for ratings_plot."""

    def draw(axes: Axes) -> None:
        _intervals(axes, rows, range(len(rows)), horizontal=False)
        axes.plot(range(len(rows)), [row["rating"] for row in rows], alpha=0.5)
        axes.set_xticks(range(len(rows)), _names(rows), parse_math=False)
        axes.set_ylabel("rating (Elo scale, 95 % interval)")

    return _png(draw, title)


def win_rate_plot(pairs: Sequence[dict[str, Any]], order: Sequence[str], title: str) -> bytes:
    """Who wins against whom, best contestants first; pairs have contestant, opponent, win_rate."""
    position = {name: number for number, name in enumerate(order)}
    shares = [[float("nan")] * len(order) for _ in order]
    for pair in pairs:
        shares[position[pair["contestant"]]][position[pair["opponent"]]] = pair["win_rate"]

    def draw(axes: Axes) -> None:
        image = axes.imshow(shares, vmin=0, vmax=1, cmap="RdYlGn")
        axes.figure.colorbar(image, label="share of points of the row's contestant")
        names = [visible(name) for name in order]
        axes.set_xticks(range(len(order)), names, rotation=90, parse_math=False)
        axes.set_yticks(range(len(order)), names, parse_math=False)
        if len(order) <= 12:
            for row, cells in enumerate(shares):
                for column, share in enumerate(cells):
                    if share == share:  # pairs that never met have no number
                        axes.text(column, row, f"{share:.2f}", ha="center", va="center")

    return _png(draw, title, height=2.5 + 0.35 * len(order))


def loss_plot(metrics: Sequence[dict[str, Any]], title: str) -> bytes:
    """What training logged: the loss by step for every phase, and the reward where there is one."""
    series: dict[str, list[tuple[int, float]]] = {}
    for entry in metrics:
        for name in ("loss", "reward"):
            if name in entry:
                label = f"{entry['phase']} {name}"
                series.setdefault(label, []).append((entry["step"], float(entry[name])))

    def draw(axes: Axes) -> None:
        for label, points in series.items():
            axes.plot(*zip(*points, strict=True), label=label)
        axes.set_xlabel("step")
        if series:
            axes.legend()

    return _png(draw, title)


def rewards_plot(means: Sequence[dict[str, Any]], title: str) -> bytes:
    """The mean of each part of a reward by step; rows have name, policy_step and mean."""
    series: dict[str, list[tuple[int, float]]] = {}
    for row in means:
        series.setdefault(row["name"], []).append((row["policy_step"], row["mean"]))

    def draw(axes: Axes) -> None:
        for name, points in series.items():
            axes.plot(*zip(*points, strict=True), marker=".", label=visible(name))
        axes.set_xlabel("step of the policy")
        axes.set_ylabel("mean over its completions")
        if series:
            axes.legend()

    return _png(draw, title)


def margins_plot(margins: Sequence[float], title: str) -> bytes:
    """How far a reward model sets the answers of held-out pairs apart; left of 0 it is wrong."""

    def draw(axes: Axes) -> None:
        axes.hist(margins, bins=30)
        axes.axvline(0, color="black", linewidth=1)
        axes.set_xlabel("score of the chosen answer less that of the rejected one")
        axes.set_ylabel("held-out pairs")

    return _png(draw, title)


def markdown_image(png: bytes) -> str:
    """A picture as Markdown that carries its own data, for the UI."""
    return f"![plot](data:image/png;base64,{base64.b64encode(png).decode()})"


def _names(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [visible(row["contestant"]) for row in rows]


def _intervals(
    axes: Axes, rows: Sequence[dict[str, Any]], positions: Sequence[int], horizontal: bool
) -> None:
    ratings = [row["rating"] for row in rows]
    spread = [
        [row["rating"] - row["lower"] for row in rows],
        [row["upper"] - row["rating"] for row in rows],
    ]
    if horizontal:
        axes.errorbar(ratings, positions, xerr=spread, fmt="o", capsize=3)
    else:
        axes.errorbar(positions, ratings, yerr=spread, fmt="o", capsize=3)


def _png(draw: Callable[[Axes], None], title: str, height: float = 4.0) -> bytes:
    # the object interface: pyplot keeps global state, and assets may run side by side
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, height), layout="constrained")
    axes = figure.add_subplot()
    draw(axes)
    axes.set_title(visible(title), parse_math=False)
    axes.grid(alpha=0.3)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100)
    return content.getvalue()
