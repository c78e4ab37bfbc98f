"""A profile: everything one arena is made of, read from YAML and checked before anything runs.

A profile says which models exist, who fights (the target and its opponents), who judges, which
rounds there are with their slices, and how each stage trains. An unknown key, a missing model or a
round without a slice is refused with a message that names the key and what would be valid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from arena_assets.config.contestants import FOLLOWS, Opponent, Target
from arena_assets.config.generation import Generation
from arena_assets.config.judges import (
    BattleSettings,
    JudgeSettings,
    Jury,
    LLMJudge,
    ShadowJudge,
    VerifierJudge,
)
from arena_assets.config.lengths import length_problems
from arena_assets.config.models import ModelSettings
from arena_assets.config.places import PROJECT, present, profile_path, resolve
from arena_assets.config.promotion import Promotion
from arena_assets.config.prompts import Prompts
from arena_assets.config.ratings import Ratings
from arena_assets.config.recipe import RoundSettings
from arena_assets.config.rounds import ROUND_KEY, parse_key
from arena_assets.config.settings import Name, Settings
from arena_assets.config.settings_files import ProfileError, explain, merged, read_settings
from arena_assets.config.training import Training
from arena_assets.lake.identity import NOT_IDENTITY


class Quality(Settings):
    """Limits of the checks."""

    failed_responses: float = Field(0.01, ge=0, le=1, description="largest share without an answer")
    failed_judgments: float = Field(0.05, ge=0, le=1, description="largest share of failed games")
    minimum_training_rows: int = Field(8, ge=1)
    reward_model_accuracy: float | None = Field(
        None, ge=0, le=1, description="least, on held-out pairs: below it RL does not start"
    )
    forgetting: float = Field(
        50.0, ge=0, description="rating points that a promoted model may lose on what is held out"
    )


class Profile(Settings):
    """Everything one arena is made of."""

    name: Annotated[Name, NOT_IDENTITY]
    seed: int = 0
    models: dict[Name, ModelSettings]
    target: Target
    opponents: tuple[Opponent, ...] = Field(min_length=1)
    judge: JudgeSettings
    shadow_judges: tuple[ShadowJudge, ...] = ()
    battles: BattleSettings = BattleSettings()
    prompts: Prompts
    rounds: dict[str, RoundSettings] = Field(min_length=1)
    promotion: Promotion = Promotion()
    training: Training
    generation: Generation = Generation()
    ratings: Ratings
    quality: Annotated[Quality, NOT_IDENTITY] = Quality()
    executor: Annotated[Literal["in_process", "multiprocess"], NOT_IDENTITY] = "in_process"

    @property
    def training_seed(self) -> int:
        """The seed of training: the profile's, unless training has one of its own."""
        return self.seed if self.training.seed is None else self.training.seed

    def of_round(self, key: str) -> Profile:
        """The profile with the training of a round."""
        changes = self.rounds[key].training
        if not changes:
            return self
        settings = merged(self.training.model_dump(), changes)
        return self.model_copy(update={"training": Training.model_validate(settings)})

    @property
    def single_judges(self) -> list[VerifierJudge | LLMJudge]:
        """Every judge: the deciding one or the jury's members, then the shadows."""
        deciding = self.judge
        members = [j.judge for j in deciding.members] if isinstance(deciding, Jury) else [deciding]
        return [*members, *(shadow.judge for shadow in self.shadow_judges)]

    @field_validator("rounds")
    @classmethod
    def known_round_keys(cls, rounds: dict[str, RoundSettings]) -> dict[str, RoundSettings]:
        for key in rounds:
            parse_key(key)
        return dict(sorted(rounds.items()))

    @model_validator(mode="after")
    def references_resolve(self) -> Profile:
        users = {"target": self.target.model}
        users |= {
            f"opponents.{o.name}": o.model for o in self.opponents if o.model and not o.follows
        }
        judges = self.single_judges
        users |= {f"judge {j.name}": j.model for j in judges if isinstance(j, LLMJudge)}
        if rater := self.prompts.testset.rater:
            users["prompts.testset.rater"] = rater.model
        if FOLLOWS in self.models:
            raise ValueError(
                f"models.{FOLLOWS}: the name is kept for what follows the target; rename the model"
            )
        for user, model in users.items():
            if model not in self.models:
                raise ValueError(
                    f"{user}: model {model!r} is not under models (there: {', '.join(self.models)})"
                )
        if self.models[self.target.model].endpoint:
            raise ValueError(
                f"target.model: {self.target.model!r} is behind an endpoint and cannot be trained; "
                "name a model with path, hub or package"
            )
        return self

    @model_validator(mode="after")
    def names_are_distinct(self) -> Profile:
        names = [opponent.name for opponent in self.opponents]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"opponents: two contestants are named {name!r}; rename one")
            if name == "base" or ROUND_KEY.match(name):
                raise ValueError(
                    f"opponents: the name {name!r} is kept for the target's checkpoints"
                )
        judges = [judge.name for judge in self.single_judges]
        if isinstance(self.judge, Jury):
            judges.append(self.judge.name)
        if len(set(judges)) != len(judges):
            raise ValueError(f"judges: names must be distinct, got {judges}")
        always = ["base", *(o.name for o in self.opponents if self._is_always_rated(o))]
        if self.ratings.anchor not in always:
            raise ValueError(
                f"ratings.anchor: {self.ratings.anchor!r} is no contestant rated after every round "
                f"(valid: {', '.join(always)})"
            )
        return self

    def _is_always_rated(self, opponent: Opponent) -> bool:
        return not opponent.follows and all(map(opponent.fights_in, self.rounds))

    @model_validator(mode="after")
    def rounds_have_their_group(self) -> Profile:
        for opponent in self.opponents:
            for what in ("joins", "leaves"):
                key = getattr(opponent, what)
                if key is not None and key not in self.rounds:
                    raise ValueError(
                        f"opponents.{opponent.name}.{what}: {key!r} is no round of this profile "
                        f"(there: {', '.join(self.rounds)})"
                    )
            if not any(map(opponent.fights_in, self.rounds)):
                raise ValueError(
                    f"opponents.{opponent.name}: it leaves with {opponent.leaves} before it joins "
                    f"with {opponent.joins or 'the first round'}; a later round has to be the one "
                    "that it leaves with"
                )
        for key, settings in self.rounds.items():
            if settings.on_policy and parse_key(key)[2] == "sft":
                raise ValueError(
                    f"rounds.{key}.on_policy: SFT learns where the target lost to others; leave it "
                    "out here, it is for dpo and rl"
                )
            if not settings.on_policy and not any(o.fights_in(key) for o in self.opponents):
                raise ValueError(
                    f"rounds.{key}: no opponent fights in it; see joins and leaves of opponents"
                )
        return self

    @model_validator(mode="after")
    def rounds_can_be_trained(self) -> Profile:
        for key, settings in self.rounds.items():
            try:
                problems = length_problems(self.of_round(key)) if settings.training else []
            except ValidationError as error:
                problems = [explain(problem, Training, "training") for problem in error.errors()]
            if problems:
                place = f"rounds.{key}.training"
                raise ValueError("; ".join(f"{place}: {problem}" for problem in problems))
        return self

    @model_validator(mode="after")
    def lengths_fit(self) -> Profile:
        if problems := length_problems(self):
            raise ValueError("; ".join(problems))
        return self

    @model_validator(mode="after")
    def every_round_has_its_slice(self) -> Profile:
        taken: dict[str, str] = {}
        for key, settings in self.rounds.items():
            if settings.slice not in self.prompts.slices.names:
                raise ValueError(
                    f"rounds.{key}.slice: {settings.slice!r} is not under prompts.slices.names "
                    f"(there: {', '.join(self.prompts.slices.names)})"
                )
            if settings.slice in taken:
                raise ValueError(
                    f"rounds.{key}.slice: {settings.slice!r} is already fought over in "
                    f"{taken[settings.slice]}; every round needs a slice of its own"
                )
            taken[settings.slice] = key
        return self


def load_profile(path: str | Path | None = None) -> Profile:
    """Read and check a profile: `path`, else the one in use (`profile_path`).

    Raises ProfileError with one line a problem: file, key, what is wrong and what would be valid.
    """
    place = resolve(str(path)) if path else profile_path()
    if not present(place):
        there = ", ".join(sorted(p.name for p in (PROJECT / "profiles").glob("*.yaml")))
        raise ProfileError(f"{place}: no such profile (in profiles/: {there})")
    return read_settings(place, Profile, "profile")
