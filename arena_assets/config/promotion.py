"""The gate between two rounds: by which rule a checkpoint is promoted, and what may stop it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from arena_assets.config.settings import Settings

Measure = Literal["points", "head_to_head", "score"]


class Guard(Settings):
    """What no promotion may cost, by categories of the test prompts that select."""

    category_drop: float | None = Field(
        None, ge=0, description="largest loss of points in a category against the fighter (0-1)"
    )
    category_prompts: int = Field(5, gt=0, description="prompts below which a category is no guide")


class Promotion(Settings):
    """Who fights in the next round.

    `best` of the base model and all checkpoints by rating; `latest` however it is rated; the newest
    only where it is shown `better` than the round's fighter, or `not_worse` by more than `margin`,
    by a paired test on the prompts that select; else the fighter fights on.
    """

    rule: Literal["best", "latest", "better", "not_worse"] = "best"
    measure: Measure = Field(
        "points",
        description="points against everybody that both met; head_to_head: against each other; "
        "score: the judge's, 1-10",
    )
    margin: float = Field(0.05, ge=0, description="of not_worse, in what `measure` counts")
    level: float = Field(0.95, gt=0.5, lt=1, description="of the paired interval")
    guard: Guard = Guard()
    approval: Literal["none", "manual"] = Field(
        "none", description="manual: another model than the fighter waits for a person"
    )

    @model_validator(mode="before")
    @classmethod
    def a_word_is_the_rule(cls, given: Any) -> Any:
        """`promotion: best` says the rule alone."""
        return {"rule": given} if isinstance(given, str) else given
