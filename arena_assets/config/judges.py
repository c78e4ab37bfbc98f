"""Who judges: the verifier, a language model, a jury of several, and shadow judges."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from arena_assets.config.contents import template_values
from arena_assets.config.models import Sampling
from arena_assets.config.settings import FilePath, Name, Settings
from arena_assets.lake.identity import As


class VerifierJudge(Settings):
    """Checks the constraints that a prompt states; prompts without any are left undecided."""

    kind: Literal["verifier"]
    name: Name = "verifier"


class LLMJudge(Settings):
    """A language model that scores both answers 1-10 and explains itself."""

    kind: Literal["llm"]
    name: Name
    model: Name
    template: Annotated[FilePath, As(template_values)] = "profiles/judge_templates/pairwise-v2.yaml"
    sampling: Sampling = Sampling(max_tokens=512)
    attempts: int = Field(3, ge=1, description="tries for output that cannot be used")
    self_judging: Literal["abstain", "allow"] = Field(
        "abstain", description="in battles of a contestant with the judge's own weights or name"
    )


SingleJudge = Annotated[VerifierJudge | LLMJudge, Field(discriminator="kind")]


class Juror(Settings):
    """A member of a jury; its scores count `weight` times."""

    judge: SingleJudge
    weight: float = Field(1.0, gt=0)


class Jury(Settings):
    """Several judges that decide together: a game's score is the weighted mean of its members'."""

    kind: Literal["jury"]
    name: Name = "jury"
    members: tuple[Juror, ...] = Field(min_length=2)
    quorum: float = Field(
        0.5, gt=0, le=1, description="share of the weight that has to give a verdict"
    )


JudgeSettings = Annotated[VerifierJudge | LLMJudge | Jury, Field(discriminator="kind")]


class BattleSettings(Settings):
    """Who meets whom in a round, and how the two games of a battle become its result."""

    mode: Literal["all_pairs", "target_against_opponents"] = Field(
        "all_pairs", description="of a round; on the test set all pairs meet"
    )
    scores: Literal["mean"] = Field("mean", description="of the contestant's scores in both games")
    flips: Literal["inconsistent", "mean"] = Field(
        "inconsistent",
        description="a winner that changes with the order: decides nothing, or the mean decides",
    )


class ShadowJudge(Settings):
    """A judge that decides nothing: it repeats a sample of battles for comparison."""

    judge: LLMJudge
    battles: int | None = Field(
        None, gt=0, description="battles a round (two games each), drawn at random; null: all"
    )
