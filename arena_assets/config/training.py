"""How each stage trains."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from arena_assets.config.settings import Settings
from arena_assets.lake.identity import NOT_IDENTITY


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

    seed: int | None = Field(
        None, ge=0, description="of training alone; null: the profile's seed, which draws prompts"
    )
    launcher: Annotated[tuple[str, ...], NOT_IDENTITY] = ()
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="bfloat16: products in it, weights and their steps in float32"
    )
    gradient_checkpointing: Annotated[bool, NOT_IDENTITY] = False
    sft: Optimisation
    dpo: PreferenceOptimisation
    reward_model: Optimisation
    rl: Reinforcement
