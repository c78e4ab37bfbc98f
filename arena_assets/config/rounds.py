"""The order of rounds: what each fights with, on which slices it trains, and what it trains from.

A round is one (iteration, stage); its key sorts in time order because Dagster's backfills sort by
key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arena_assets.config.recipe import RoundSettings

STAGES = {"sft": 1, "dpo": 2, "rl": 3}
ROUND_KEY = re.compile(r"^i(?P<iteration>\d\d)\.(?P<step>[123])-(?P<stage>sft|dpo|rl)$")
BASE = "base"


@dataclass(frozen=True)
class Round:
    """One turn of the wheel.

    `previous` is None for the first round, which fights with the base model. `trains_on` names the
    rounds whose battles make its training set: its own and those of the same stage in its window.
    """

    key: str
    iteration: int
    stage: str
    settings: RoundSettings
    previous: str | None
    following: str | None
    trains_on: tuple[str, ...]

    @property
    def slice(self) -> str:
        return self.settings.slice

    @property
    def minimum_gap(self) -> float:
        return self.settings.minimum_gap

    @property
    def starts_from(self) -> str:
        """In words: which weights it trains."""
        return {
            "fighter": "its fighter",
            "base": "the base model",
            "best": f"the best rated after {self.previous}" if self.previous else "the base model",
            "last": f"checkpoint {self.previous}" if self.previous else "the base model",
        }[self.settings.trains_from]

    @property
    def fights_with(self) -> str:
        """In words: where the target of this round comes from."""
        return f"promoted after {self.previous}" if self.previous else "the base model"


class UnknownRound(KeyError):
    """A round key that the profile does not have."""

    def __str__(self) -> str:
        return str(self.args[0])


def rounds_in_order(settings: Mapping[str, RoundSettings]) -> dict[str, Round]:
    """The rounds of a profile in time order, by key."""
    keys = sorted(settings)
    rounds = {}
    for position, key in enumerate(keys):
        iteration, _, stage = parse_key(key)
        so_far = keys[: position + 1]
        rounds[key] = Round(
            key=key,
            iteration=iteration,
            stage=stage,
            settings=settings[key],
            previous=keys[position - 1] if position else None,
            following=keys[position + 1] if position + 1 < len(keys) else None,
            trains_on=_window([k for k in so_far if parse_key(k)[2] == stage], settings[key]),
        )
    return rounds


def _window(of_stage: list[str], settings: RoundSettings) -> tuple[str, ...]:
    """Those of the rounds of a stage, the present one last, whose rows are learned."""
    if settings.data == "accumulate":
        return tuple(of_stage)
    return tuple(of_stage[-1 if settings.data == "this" else -settings.data.last :])


def parse_key(key: str) -> tuple[int, int, str]:
    """(iteration, step, stage) of a round key; ValueError where it is none."""
    match = ROUND_KEY.match(key)
    if not match or STAGES[match["stage"]] != int(match["step"]):
        raise ValueError(
            f"{key!r} is no round key: write iNN.S-stage, for example i01.1-sft; stages are "
            + ", ".join(f"{step}-{stage}" for stage, step in STAGES.items())
        )
    return int(match["iteration"]), int(match["step"]), match["stage"]


def select_round(rounds: Mapping[str, Round], key: str) -> Round:
    """The round of that key; UnknownRound names the valid ones."""
    if key not in rounds:
        raise UnknownRound(f"no round {key!r} in this profile (there: {', '.join(rounds)})")
    return rounds[key]


def until(rounds: Iterable[str], last: str) -> list[str]:
    """The keys up to and including `last`, in time order."""
    return [key for key in sorted(rounds) if key <= last]
