"""How each stage trains."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from arena_assets.config.settings import Settings
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


class Imitation(Optimisation):
    """SFT. With `packing`, rows that fit into `max_length` together are learned as one.

    `batch` and `device_batch` count what is packed then, not the rows in it.
    """

    packing: bool = False


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
    """How checkpoints are made; `launcher` (accelerate ...) is put before the command."""

    seed: int | None = Field(
        None, ge=0, description="of training alone; null: the profile's seed, which draws prompts"
    )
    launcher: Annotated[tuple[str, ...], NOT_IDENTITY] = ()
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="bfloat16: products in it, weights and their steps in float32"
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
    reward_model: Optimisation
    rl: Reinforcement

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
        return {
            **{name: said for name, said in common.items() if said is not None},
            **{name: getattr(self, name) for name in SECTIONS[stage]},
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
