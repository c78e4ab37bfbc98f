"""Contestants: a model, how it is prompted and sampled, and the key of its answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from arena_assets.config.contestants import Opponent, Target
from arena_assets.config.models import Sampling
from arena_assets.config.places import resolve
from arena_assets.config.settings import Settings
from arena_assets.config.settings_files import read_settings
from arena_assets.lake.code import code_version
from arena_assets.lake.identity import NOT_IDENTITY, identity
from arena_assets.models.engines import Message, Weights


class Example(Settings):
    """One exchange that shows how to answer."""

    user: str
    assistant: str


class SystemPrompt(Settings):
    """A versioned system prompt with worked examples, read from YAML."""

    version: Annotated[str, NOT_IDENTITY]  # a label
    system: str
    examples: tuple[Example, ...] = ()

    def before(self, messages: Sequence[Message]) -> list[Message]:
        """The conversation with this prompt and its examples put before it."""
        rendered = [{"role": "system", "content": self.system}]
        for example in self.examples:
            rendered.append({"role": "user", "content": example.user})
            rendered.append({"role": "assistant", "content": example.assistant})
        # A prompt may bring a system message of its own; templates allow only one, at the start.
        if messages and messages[0]["role"] == "system":
            rendered[0]["content"] += "\n\n" + messages[0]["content"]
            messages = messages[1:]
        return rendered + list(messages)


@dataclass(frozen=True)
class Contestant:
    """Who answers: a model, or a recording of its answers, with its prompting and sampling."""

    name: str
    role: str  # target or opponent
    weights: Weights
    sampling: Sampling
    system_prompt: SystemPrompt | None = None
    best_of: int = 1

    def render(self, messages: Sequence[Message]) -> list[Message]:
        """The conversation as this contestant sees it: system prompt, examples, then the prompt."""
        return self.system_prompt.before(messages) if self.system_prompt else list(messages)

    def sampling_json(self) -> str:
        settings: dict[str, Any] = self.sampling.model_dump(mode="json")
        return json.dumps(settings | {"best_of": self.best_of}, sort_keys=True)

    def key(self, seed: int) -> str:
        """Hash of all that determines an answer but the prompt.

        The seed matters only where text is drawn at random.
        """
        return identity(
            "answer",
            code=code_version("answer"),
            model=self.weights.identity,
            system_prompt=self.system_prompt,
            sampling=self.sampling,
            best_of=self.best_of,
            seed=seed if self.sampling.temperature > 0 else None,
        )


def read_system_prompt(path: str | None) -> SystemPrompt | None:
    """The system prompt of a file; ProfileError names the file and what is wrong in it."""
    return read_settings(resolve(path), SystemPrompt, "system prompt") if path else None


def target_contestant(target: Target, name: str, weights: Weights) -> Contestant:
    """A checkpoint of the target (or its base weights), under the name it is rated by."""
    return Contestant(
        name, "target", weights, target.sampling, read_system_prompt(target.system_prompt)
    )


def opponent_contestant(opponent: Opponent, weights: Weights) -> Contestant:
    """An opponent of the profile."""
    return Contestant(
        opponent.name,
        "opponent",
        weights,
        opponent.sampling,
        read_system_prompt(opponent.system_prompt),
        opponent.best_of,
    )
