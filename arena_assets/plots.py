"""Plots as PNG for the metadata of assets: ratings, progress, loss curves."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from arena_assets.hostile_text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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


# a panel of a training's figure: what it is called, and the names under which TRL's trainers log it
_PANELS = {
    "loss": ("loss",),
    "reward": ("reward",),
    "share of groups whose rewards are equal": ("frac_reward_zero_std",),
    "KL from the reference": ("kl",),
    "margin of chosen over rejected": ("rewards/margins", "margin"),
    "accuracy": ("rewards/accuracies", "accuracy", "mean_token_accuracy"),
    "tokens an answer": ("completions/mean_length",),
    "learning rate": ("learning_rate",),
    "gradient norm": ("grad_norm",),
}


def training_plots(metrics: Sequence[dict[str, Any]], title: str) -> dict[str, bytes]:
    """What training logged, a figure a phase, in the phases' order.

    A panel for each of loss, reward, groups of equal rewards (which teach nothing), KL, margin,
    accuracy, length, learning rate and gradient norm that the phase logged; steps at which one has
    no finite number are left out of it.
    """
    phases = dict.fromkeys(entry["phase"] for entry in metrics if "loss" in entry)
    return {
        phase: _panels(series, f"{title}: {phase}")
        for phase in phases
        if (series := _series([entry for entry in metrics if entry["phase"] == phase]))
    }


def _series(entries: Sequence[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every panel that has one."""
    found: dict[str, list[tuple[int, float]]] = {}
    for panel, names in _PANELS.items():
        for entry in entries:
            value = next((entry[name] for name in names if entry.get(name) is not None), None)
            if value is not None and math.isfinite(float(value)):
                found.setdefault(panel, []).append((entry["step"], float(value)))
    return found


def _panels(series: dict[str, list[tuple[int, float]]], title: str) -> bytes:
    from matplotlib.figure import Figure

    rows = math.ceil(len(series) / 2)
    figure = Figure(figsize=(7, 0.4 + 1.6 * rows), layout="constrained")
    for axes, (panel, points) in zip(figure.subplots(rows, 2).flat, series.items(), strict=False):
        axes.plot(*zip(*points, strict=True), marker=".", markersize=3, linewidth=1)
        axes.set_title(panel, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    for axes in figure.axes[len(series) :]:
        axes.remove()
    figure.suptitle(visible(title), fontsize=9, parse_math=False)
    return _content(figure, dpi=80)


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
    return _content(figure, dpi=100)


def _content(figure: Figure, dpi: int) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    return content.getvalue()
