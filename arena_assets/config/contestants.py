"""Who fights: the target and its opponents."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, model_validator

from arena_assets.config.contents import file_digest, prompt_values
from arena_assets.config.models import Sampling
from arena_assets.config.settings import FilePath, Name, Settings
from arena_assets.lake.identity import As

FOLLOWS: Final = "target"  # in the place of an opponent's model: the fighter's, round by round


class Target(Settings):
    """The model that learns. Its checkpoints fight under the name of the round that made them."""

    model: Name
    system_prompt: Annotated[FilePath | None, As(prompt_values)] = Field(
        None, description="path of a system prompt file (YAML)"
    )
    sampling: Sampling = Sampling()


class Opponent(Settings):
    """A contestant that the target fights: a model with its prompting, or recorded answers."""

    name: Name
    model: Name | None = Field(
        None, description="target: that of whoever fights; such a one is not on the test set"
    )
    recorded: Annotated[FilePath | None, As(file_digest)] = Field(
        None, description="files with prompt_id and text, as of a source"
    )
    system_prompt: Annotated[FilePath | None, As(prompt_values)] = None
    sampling: Sampling = Sampling()
    best_of: int = Field(
        1, ge=1, description="samples; kept is the verifier's best, or what most of them say"
    )
    joins: str | None = Field(None, description="the first round that it fights in; null: all")
    leaves: str | None = Field(None, description="the first round without it again; null: none")

    @property
    def follows(self) -> bool:
        """Whether it answers with the model of the round's target."""
        return self.model == FOLLOWS

    def fights_in(self, key: str) -> bool:
        """Whether it is in the group of a round, and on the test set after it."""
        return (self.joins or key) <= key and (self.leaves is None or key < self.leaves)

    @model_validator(mode="after")
    def model_or_recording(self) -> Opponent:
        if (self.model is None) == (self.recorded is None):
            raise ValueError(f"opponent {self.name}: give exactly one of model, recorded")
        if self.best_of > 1 and self.sampling.temperature == 0:
            raise ValueError(
                f"opponent {self.name}: best_of {self.best_of} with temperature 0 draws the same "
                "answer every time; set sampling.temperature above 0"
            )
        return self
