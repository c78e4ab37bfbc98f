"""The recipe of a round: what it fights over, which rows it learns, what it trains from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from arena_assets.config.settings import Settings


class RoundSettings(Settings):
    """One turn of the wheel, keyed iNN.S-stage."""

    slice: str
    minimum_gap: float = Field(ge=0, description="K: the score gap that makes a training row")
    trains_from: Literal["fighter", "base"] = "fighter"
