"""The recipe of a round: what it fights over, which rows it learns, what it trains from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from arena_assets.config.settings import Settings


class OnPolicy(Settings):
    """The target's own samples, fought over instead of the group's answers: best against worst."""

    samples: int = Field(4, ge=2, description="answers a prompt; all pairs of them are judged")
    temperature: float = Field(1.0, gt=0)


class RoundSettings(Settings):
    """One turn of the wheel, keyed iNN.S-stage."""

    slice: str
    minimum_gap: float = Field(ge=0, description="K: the score gap that makes a training row")
    trains_from: Literal["fighter", "base"] = "fighter"
    on_policy: OnPolicy | None = Field(
        None, description="pairs of the target's own samples; null: of the group's battles"
    )
