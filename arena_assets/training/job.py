"""What a training process is told: one JSON file a job."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from arena_assets.config.settings import Settings
from arena_assets.config.training import Training
from arena_assets.models.prompting import SystemPrompt


class Job(Settings):
    """Train `model` (a folder) on `training_set` (Parquet) into the new folder `output`.

    The number type of `training` is settled: not "auto". `adapter` is the folder of the one that
    the model to train wears, `run` its name in trackers ("pocket/i01.1-sft"), which write what they
    keep on this machine into `tracking`.
    """

    stage: Literal["sft", "dpo", "rl"]
    model: Path
    adapter: Path | None = None
    training_set: Path
    output: Path
    training: Training
    seed: int
    reward_model_accuracy: float | None = Field(None, description="least, on held-out pairs")
    judge: Path | None = Field(None, description="where the arena's judge rewards groups")
    run: str = ""
    tracking: Path | None = None
    trust_remote_code: bool = False
    chat_template: str | None = Field(None, description="Jinja; default: the tokenizer's own")
    system_prompt: SystemPrompt | None = Field(None, description="as the target sees it in battles")

    @property
    def draws_with_vllm(self) -> bool:
        """Whether RL draws its completions with vLLM: `trl: {use_vllm: true}` of training.rl."""
        arguments = getattr(self.training.rl, "trl", {})
        return self.stage == "rl" and bool(arguments.get("use_vllm"))

    @classmethod
    def read(cls, path: Path) -> Job:
        return cls.model_validate_json(path.read_text(encoding="utf-8"))

    def write(self, path: Path) -> None:
        path.write_text(self.model_dump_json(indent=2), encoding="utf-8")
