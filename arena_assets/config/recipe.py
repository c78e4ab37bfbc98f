"""The recipe of a round: what it fights over, which rows it learns, what it trains from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from arena_assets.config.settings import Settings


class OnPolicy(Settings):
    """The target's own samples, fought over instead of the group's answers: best against worst."""

    samples: int = Field(4, ge=2, description="answers a prompt; all pairs of them are judged")
    temperature: float = Field(1.0, gt=0)


class Newest(Settings):
    """A window of rounds: so many of the same stage, the round itself among them."""

    last: int = Field(ge=1)


class RoundSettings(Settings):
    """One turn of the wheel, keyed iNN.S-stage."""

    slice: str
    minimum_gap: float = Field(ge=0, description="K: the score gap that makes a training row")
    trains_from: Literal["fighter", "base", "best", "last"] = Field(
        "fighter",
        description="fighter: who fought the round; best: the best rated after the round before; "
        "last: the newest checkpoint before it, promoted or not",
    )
    data: Literal["accumulate", "this"] | Newest = Field(
        "accumulate", description="rounds of its stage whose rows it learns: all so far, itself"
    )
    on_policy: OnPolicy | None = Field(
        None, description="pairs of the target's own samples; null: of the group's battles"
    )
    training: dict[str, Any] = Field(
        {}, description="what is trained in another way than the profile's training says"
    )
