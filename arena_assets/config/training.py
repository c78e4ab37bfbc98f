"""How each stage trains."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from arena_assets.config.contents import sharding
from arena_assets.config.settings import FilePath, Settings
from arena_assets.lake.identity import NOT_IDENTITY, As


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


def passes(batch: int, device_batch: int, processes: int = 1) -> int:
    """How many forward passes each process makes for a step of `batch` rows over all of them.

    Raises ValueError with the nearest valid values where they are no whole number: a step would see
    other rows than `batch`, by the machine.
    """
    together = device_batch * processes
    if batch % together == 0:
        return batch // together
    nearest = [n for n in (batch - batch % together, batch + -batch % together) if n]
    divisor = next((n for n in range(device_batch, 0, -1) if batch % (n * processes) == 0), None)
    several = f" x {processes} processes = {together}" if processes > 1 else ""
    raise ValueError(
        f"batch {batch} is no multiple of device_batch {device_batch}{several}: set batch to "
        + " or ".join(map(str, nearest))
        + (f", or device_batch to {divisor}" if divisor else "")
    )


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
    """How checkpoints are made, on how many devices.

    More than one process is started by `accelerate launch`, which reads the file `accelerate`.
    """

    seed: int | None = Field(
        None, ge=0, description="of training alone; null: the profile's seed, which draws prompts"
    )
    processes: Annotated[int, NOT_IDENTITY] = Field(1, gt=0, description="on each node")
    nodes: Annotated[int, NOT_IDENTITY] = Field(1, gt=0)
    launcher: Annotated[tuple[str, ...], NOT_IDENTITY] = Field(
        (), description="put before the command; of several nodes it starts it on each (srun)"
    )
    accelerate: Annotated[FilePath, As(sharding)] = "profiles/accelerate/ddp.yaml"
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="bfloat16: products in it, weights and their steps in float32"
    )
    keep_masters: bool = Field(
        True,
        description="float32 weights beside the bfloat16 copy, for the next round to train on from",
    )
    save_every: Annotated[float, NOT_IDENTITY] = Field(
        10.0, ge=0, description="minutes between steps that a killed training can go on from"
    )
    gradient_checkpointing: Annotated[bool, NOT_IDENTITY] = False
    sft: Optimisation
    dpo: PreferenceOptimisation
    reward_model: Optimisation
    rl: Reinforcement

    @field_validator("sft", "dpo", "reward_model", "rl")
    @classmethod
    def a_step_is_whole_passes(cls, section: Optimisation, info: ValidationInfo) -> Optimisation:
        count = info.data.get("processes", 1) * info.data.get("nodes", 1)
        passes(section.batch, section.device_batch, count)
        return section

    @field_validator("rl")
    @classmethod
    def a_step_is_whole_groups(cls, rl: Reinforcement) -> Reinforcement:
        if rest := rl.batch % rl.completions:
            nearest = [n for n in (rl.batch - rest, rl.batch - rest + rl.completions) if n]
            raise ValueError(
                f"batch {rl.batch}, which counts completions, is no multiple of completions "
                f"{rl.completions}: set batch to {' or '.join(map(str, nearest))}"
            )
        return rl
