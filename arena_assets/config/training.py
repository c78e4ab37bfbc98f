"""The rounds of the wheel and how each stage trains."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from arena_assets.config.settings import Settings
from arena_assets.config.trl import checked, deciding
from arena_assets.lake.identity import NOT_IDENTITY, As


class RoundSettings(Settings):
    """One turn of the wheel, keyed iNN.S-stage."""

    slice: str
    minimum_gap: float = Field(ge=0, description="K: the score gap that makes a training row")
    trains_from: Literal["fighter", "base"] = "fighter"


class Optimisation(Settings):
    """What every trainer shares; the batch is what one optimiser step sees."""

    epochs: float = Field(gt=0)
    learning_rate: float = Field(gt=0)
    batch: int = Field(gt=0)
    device_batch: Annotated[int, NOT_IDENTITY] = Field(
        1, gt=0, description="rows a forward pass on one device"
    )
    max_length: int = Field(
        4096, gt=0, description="tokens of a row; longer ones are left out and counted"
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the steps")
    trl: Annotated[dict[str, Any], As(deciding)] = Field(
        {}, description="further arguments of TRL's configuration of this stage"
    )

    @model_validator(mode="after")
    def batch_is_whole_passes(self) -> Optimisation:
        """Else a step would see other rows than `batch`, by the device's batch."""
        passes, rest = divmod(self.batch, self.device_batch)
        if rest:
            nearest = max(1, passes) * self.device_batch
            raise ValueError(
                f"batch {self.batch} is no multiple of device_batch {self.device_batch}: set batch "
                f"to one, for example {nearest}, or device_batch to a divisor of batch"
            )
        return self


class PreferenceOptimisation(Optimisation):
    beta: float = Field(gt=0)


class Reinforcement(Optimisation):
    """GRPO or RLOO against the reward model; `completions` answers are drawn a prompt.

    A prompt and `max_completion` have to fit into `max_length`.
    """

    algorithm: Literal["grpo", "rloo"] = "grpo"
    kl_coefficient: float = Field(ge=0)
    completions: int = Field(8, ge=2)
    max_completion: int = Field(gt=0, description="tokens")
    temperature: float = Field(1.0, gt=0)
    max_steps: int | None = Field(None, gt=0)


SECTIONS = {"sft": ("sft",), "dpo": ("dpo",), "rl": ("reward_model", "rl")}  # of a stage


class Training(Settings):
    """How checkpoints are made; `launcher` (accelerate ...) is put before the command."""

    launcher: Annotated[tuple[str, ...], NOT_IDENTITY] = ()
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="bfloat16: products in it, weights and their steps in float32"
    )
    gradient_checkpointing: Annotated[bool, NOT_IDENTITY] = False
    sft: Optimisation
    dpo: PreferenceOptimisation
    reward_model: Optimisation
    rl: Reinforcement

    @property
    def trl_configs(self) -> dict[str, str]:
        """The class of TRL that takes the arguments of each section."""
        return {
            "sft": "SFTConfig",
            "dpo": "DPOConfig",
            "reward_model": "RewardConfig",
            "rl": f"{self.rl.algorithm.upper()}Config",
        }

    @model_validator(mode="after")
    def trl_knows_its_arguments(self) -> Training:
        """Also gives each value the kind that TRL wants."""
        problems: list[InitErrorDetails] = []
        for section, config in self.trl_configs.items():
            arguments = getattr(self, section).trl
            right, wrong = checked(section, config, arguments)
            arguments.update(right)
            for name, told in wrong.items():
                error = PydanticCustomError("trl", "{told}", {"told": told})
                place = (section, "trl", name)
                problems.append(InitErrorDetails(type=error, loc=place, input=arguments[name]))
        if problems:
            raise ValidationError.from_exception_data("training", problems)
        return self
