"""The recipe of a round: what it fights over, which rows it learns, what it trains from."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from arena_assets.config.plugins import is_function_name, source_digest, source_of
from arena_assets.config.settings import Settings, existing, located
from arena_assets.lake.identity import As

PAIR_JUDGE: Final = "pair-judge"
RULES: Final = (PAIR_JUDGE, "random", "kmeans", "instruction-length", "all")


def _said_of_rule(rule: str) -> list[str]:
    """A rule by its name, a function's with the digest of its source; of the pair judge nothing."""
    if rule == PAIR_JUDGE:
        return []
    return [rule, *([source_digest(rule)] if is_function_name(rule) else [])]


class Selection(Settings):
    """Which of a round's battles become rows to learn, one a prompt."""

    rule: Annotated[str, As(_said_of_rule)] = Field(
        PAIR_JUDGE, description=f"{', '.join(RULES)}, or a function module:name"
    )
    rows: int | None = Field(
        None, gt=0, description="how many; null: as many as the pair judge would choose"
    )

    @field_validator("rule")
    @classmethod
    def rule_is_known(cls, rule: str) -> str:
        if is_function_name(rule):
            source_of(rule)
        elif rule not in RULES:
            raise ValueError(
                f"{rule!r} is no rule of selection (valid: {', '.join(RULES)}, or a function as "
                "module:name)"
            )
        return rule

    @model_validator(mode="after")
    def rows_go_with_rules_that_count(self) -> Selection:
        if self.rows is not None and self.rule in (PAIR_JUDGE, "all"):
            raise ValueError(f"rows: {self.rule} takes all that it finds; leave rows out")
        return self


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
    selection: Selection = Selection()
    training: dict[str, Any] = Field(
        {}, description="what is trained in another way than the profile's training says"
    )

    @field_validator("data", mode="before")
    @classmethod
    def data_is_a_window(cls, data: Any) -> Any:
        known = data in ("accumulate", "this") or isinstance(data, Newest)
        if not known and not (isinstance(data, dict) and set(data) == {"last"}):
            raise ValueError(f"accumulate, this, or {{last: 2}} for the newest two; got {data!r}")
        return Newest.model_validate(data) if isinstance(data, dict) else data

    @field_validator("training")
    @classmethod
    def its_file_lies_beside_the_profile(
        cls, training: dict[str, Any], info: ValidationInfo
    ) -> dict[str, Any]:
        """`accelerate` is the one path in it; only here is it known who names it."""
        place = training.get("accelerate")
        if not isinstance(place, str):
            return training
        return training | {"accelerate": existing(located(place, info))}

    @field_validator("selection", mode="before")
    @classmethod
    def rule_alone_is_enough(cls, selection: Any) -> Any:
        return {"rule": selection} if isinstance(selection, str) else selection
