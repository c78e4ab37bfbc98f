"""How each stage trains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from arena_assets.config.contents import sharding
from arena_assets.config.plugins import is_function_name, source_digest, source_of
from arena_assets.config.settings import FilePath, Settings
from arena_assets.config.trl import checked, deciding
from arena_assets.lake.identity import NOT_IDENTITY, As, setting


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


class Imitation(Optimisation):
    """SFT. With `packing`, rows that fit into `max_length` together are learned as one.

    `batch` and `device_batch` count what is packed then, not the rows in it.
    """

    packing: bool = False


class PreferenceOptimisation(Optimisation):
    beta: float = Field(gt=0)


REWARDS = ("reward_model", "verifier", "arena")


def _weights(reward: str | Mapping[str, float]) -> dict[str, float]:
    return {reward: 1.0} if isinstance(reward, str) else dict(reward)


def _said_of_reward(reward: str | Mapping[str, float]) -> dict[str, Any]:
    """What is rewarded: weights by name, a function's with the digest of its source."""
    said = {
        name: [weight, *([source_digest(name)] if is_function_name(name) else [])]
        for name, weight in _weights(reward).items()
    }
    return {} if said == {"reward_model": [1.0]} else said


class RewardFitting(Optimisation):
    """The reward model. What is held out, by prompt, measures it before RL is rewarded by it."""

    held_out: float = Field(0.15, ge=0, lt=1, description="share of the prompts with pairs")


class Reinforcement(Optimisation):
    """GRPO or RLOO against a reward; `completions` answers are drawn a prompt.

    A prompt and `max_completion` have to fit into `max_length`.
    """

    reward: Annotated[str | dict[str, float], As(_said_of_reward)] = Field(
        "reward_model",
        description="reward_model, verifier, arena, a function module:name, or weights by name",
    )
    algorithm: Literal["grpo", "rloo"] = "grpo"
    kl_coefficient: float = Field(ge=0)
    completions: int = Field(8, ge=2)
    max_completion: int = Field(gt=0, description="tokens")
    temperature: float = Field(1.0, gt=0)
    max_steps: int | None = Field(None, gt=0)

    @field_validator("reward")
    @classmethod
    def rewards_are_known(cls, reward: str | dict[str, float]) -> str | dict[str, float]:
        weights = _weights(reward)
        for name in weights:
            if name not in REWARDS and not is_function_name(name):
                raise ValueError(
                    f"{name!r} is no reward (valid: {', '.join(REWARDS)}, or a function as "
                    "module:name)"
                )
            if is_function_name(name):
                source_of(name)
        if not any(weights.values()) or not all(map(math.isfinite, weights.values())):
            raise ValueError("weights have to be finite numbers, and one of them other than 0")
        return reward

    @property
    def rewards(self) -> dict[str, float]:
        """The weight of each reward, by name; one of weight 0 is only watched."""
        return _weights(self.reward)


SECTIONS = {"sft": ("sft",), "dpo": ("dpo",), "rl": ("reward_model", "rl")}  # of a stage


class LoRA(Settings):
    """A low-rank adapter is trained in place of all weights, which stay as they are.

    `merge` adds it to them when the checkpoint is written (in float32); else the checkpoint is the
    adapter alone, which vLLM lays over the base model and the next round goes on training.
    """

    rank: int = Field(16, gt=0)
    alpha: int = Field(32, gt=0, description="the adapter counts alpha / rank times")
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    merge: bool = True
    quantise: Literal["none", "4bit"] = Field(
        "none", description="how the base weights are held meanwhile; 4bit (QLoRA) on GPUs"
    )

    @field_validator("target_modules")
    @classmethod
    def modules_are_named(cls, modules: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not modules:
            raise ValueError("name at least one module, or write all-linear")
        if "lm_head" in modules:
            raise ValueError("lm_head: TRL reads its weights itself, an adapter would not learn")
        return modules


Tracker = Literal["tensorboard", "trackio", "wandb", "mlflow"]


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
    attention: Literal[
        "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention", None
    ] = Field(None, description="default: what transformers chooses")
    lora: LoRA | None = None
    report_to: Annotated[tuple[Tracker, ...], NOT_IDENTITY] = Field(
        (), description="trackers that see every step; metrics.jsonl and the UI's plots always do"
    )
    sft: Imitation
    dpo: PreferenceOptimisation
    reward_model: RewardFitting
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

    @field_validator("report_to", mode="before")
    @classmethod
    def trackers_as_written(cls, trackers: Any) -> Any:
        """One tracker may stand alone, and "none" says that there is none."""
        if trackers in ("none", ["none"], None):
            return ()
        return (trackers,) if isinstance(trackers, str) else trackers

    def of_stage(self, stage: str) -> dict[str, Any]:
        """The settings that determine the checkpoints of a stage, by name."""
        common = {name: setting(self, name) for name in ("attention", "lora")}
        unused = set() if "reward_model" in self.rl.rewards else {"reward_model"}
        return {
            **{name: said for name, said in common.items() if said is not None},
            **{name: getattr(self, name) for name in SECTIONS[stage] if name not in unused},
        }

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
