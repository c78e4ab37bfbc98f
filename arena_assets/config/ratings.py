"""How the arena rates: anchor, intervals, active sampling, a reference to compare with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, model_validator

from arena_assets.config.contents import file_digest
from arena_assets.config.settings import FilePath, Settings
from arena_assets.lake.identity import As


class ActiveSampling(Settings):
    """Judge only the arena battles that narrow the intervals between close ratings most."""

    share: float = Field(gt=0, le=1, description="of all battles on the test set")
    batches: int = Field(10, ge=2, description="how often the ratings so far choose what is next")

    def budget(self, battles: int) -> int:
        """How many of so many battles are judged."""
        return round(self.share * battles)


class Reference(Settings):
    """A leaderboard of another arena, to compare the ratings of every round with."""

    path: Annotated[FilePath, As(file_digest)] = Field(
        description="CSV or Parquet: model, rating, lower, upper"
    )
    names: Annotated[FilePath | None, As(file_digest)] = Field(
        None, description="CSV with a header: our name, the reference's"
    )
    where: dict[str, str] = Field({}, description="rows of the reference, by column and value")


class Ratings(Settings):
    """Bradley-Terry on the Elo scale: who holds which rating, and how intervals are made."""

    anchor: str
    anchor_rating: FiniteFloat = 1000.0
    interval: Literal["sandwich", "bootstrap"] = Field(
        "sandwich", description="bootstrap: median and percentiles of resamples, as in the paper"
    )
    bootstrap: int = Field(100, ge=20, description="resamples, where interval is bootstrap")
    simultaneous: bool = Field(
        False, description="intervals of the sandwich that hold for all contestants at once"
    )
    sampling: ActiveSampling | None = None
    reference: Reference | None = None

    @model_validator(mode="after")
    def simultaneous_by_the_sandwich(self) -> Ratings:
        if self.simultaneous and self.interval == "bootstrap":
            raise ValueError("simultaneous goes with interval: sandwich")
        return self
